import type { Deps } from '../deps.ts';
import type { ApiInstance } from '../http/api.ts';
import { principalOf } from '../http/bearer-guard.ts';
import { requestContext } from '../http/context.ts';
import type { RouteTools } from '../http/route-tools.ts';
import { emptyResponse, operation, schemaRef } from '../http/schemas.ts';
import { loginResponseSchema, toLoginResponse } from '../sessions/schemas.ts';
import { logIn, logInWithCode } from './flow.ts';
import { reauthenticate } from './reauthentication.ts';
import { codeLoginBodySchema, loginBodySchema, reauthenticateBodySchema } from './schemas.ts';

/** POST /auth/login, POST /auth/login/code and POST /auth/reauthenticate. */
export function registerLogin(app: ApiInstance, deps: Deps, { guard, limit }: RouteTools): void {
  app.post(
    '/auth/login',
    {
      onRequest: limit('login'),
      schema: operation({
        operationId: 'logIn',
        tag: 'Authentication',
        summary: 'Log in with a password',
        description:
          'Opens a session. Unknown addresses, disabled accounts and wrong passwords are answered alike, in the same time.',
        body: loginBodySchema,
        response: { 200: schemaRef(loginResponseSchema) },
        errors: ['invalid_credentials', 'too_many_requests'],
      }),
    },
    async (request, reply) => {
      const login = await logIn(deps, request.body, requestContext(request, reply));
      reply.header('cache-control', 'no-store');
      return toLoginResponse(login);
    },
  );

  app.post(
    '/auth/login/code',
    {
      onRequest: limit('login'),
      schema: operation({
        operationId: 'logInWithCode',
        tag: 'Authentication',
        summary: 'Log in with an e-mailed code',
        description: 'Opens a session for the account of an address proved for `login`.',
        body: codeLoginBodySchema,
        response: { 200: schemaRef(loginResponseSchema) },
        errors: ['invalid_verification_token', 'too_many_requests'],
      }),
    },
    async (request, reply) => {
      const input = { verificationToken: request.body.verification_token };
      const login = await logInWithCode(deps, input, requestContext(request, reply));
      reply.header('cache-control', 'no-store');
      return toLoginResponse(login);
    },
  );

  app.post(
    '/auth/reauthenticate',
    {
      onRequest: [limit('reauthenticate'), guard],
      schema: operation({
        operationId: 'reauthenticate',
        tag: 'Authentication',
        summary: 'Prove again who you are',
        description:
          'Makes the authentication of this session recent (RFC 9470), by password or by an address proved for `login`. What answers `insufficient_user_authentication` works for the next five minutes, with the same access token.',
        body: reauthenticateBodySchema,
        response: { 204: emptyResponse('The authentication is recent.') },
        errors: ['invalid_credentials', 'invalid_verification_token', 'too_many_requests'],
        secured: true,
      }),
    },
    async (request, reply) => {
      const { password, verification_token = '' } = request.body;
      const proof = password === undefined ? { verificationToken: verification_token } : { password };
      await reauthenticate(deps, principalOf(request), proof, requestContext(request, reply));
      return reply.status(204).send(null);
    },
  );
}
