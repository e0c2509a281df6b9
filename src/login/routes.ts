import { toUserResponse } from '../account/schemas.ts';
import type { Deps } from '../deps.ts';
import type { ApiInstance } from '../http/api.ts';
import { requestContext } from '../http/context.ts';
import type { RouteTools } from '../http/route-tools.ts';
import { operation, schemaRef } from '../http/schemas.ts';
import { loginResponseSchema, toTokenResponse } from '../sessions/schemas.ts';
import { logIn, logInWithCode } from './flow.ts';
import { codeLoginBodySchema, loginBodySchema } from './schemas.ts';

/** POST /auth/login and POST /auth/login/code. */
export function registerLogin(app: ApiInstance, deps: Deps, { limit }: RouteTools): void {
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
      const { tokens, account } = await logIn(deps, request.body, requestContext(request));
      reply.header('cache-control', 'no-store');
      return { ...toTokenResponse(tokens), user: toUserResponse(account) };
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
      const { tokens, account } = await logInWithCode(deps, input, requestContext(request));
      reply.header('cache-control', 'no-store');
      return { ...toTokenResponse(tokens), user: toUserResponse(account) };
    },
  );
}
