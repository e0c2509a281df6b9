import type { Deps } from '../deps.ts';
import type { ApiInstance } from '../http/api.ts';
import { requestContext } from '../http/context.ts';
import type { RouteTools } from '../http/route-tools.ts';
import { operation, schemaRef } from '../http/schemas.ts';
import { loginResponseSchema, toLoginResponse } from '../sessions/schemas.ts';
import { register } from './flow.ts';
import { registerBodySchema } from './schemas.ts';

/** POST /auth/register. */
export function registerRegistration(app: ApiInstance, deps: Deps, { limit }: RouteTools): void {
  app.post(
    '/auth/register',
    {
      onRequest: limit('register'),
      schema: operation({
        operationId: 'register',
        tag: 'Authentication',
        summary: 'Create an account',
        description:
          'Creates the account of an address proved for `registration` and logs its owner in. A refused password leaves the verification token usable.',
        body: registerBodySchema,
        response: { 201: schemaRef(loginResponseSchema) },
        errors: ['invalid_verification_token', 'password_rejected', 'account_exists', 'too_many_requests'],
      }),
    },
    async (request, reply) => {
      const { verification_token, password, ...profile } = request.body;
      const registration = { verificationToken: verification_token, password, profile };
      const registered = await register(deps, registration, requestContext(request, reply));
      return reply
        .status(201)
        .header('cache-control', 'no-store')
        .header('location', '/users/me')
        .send(toLoginResponse(registered));
    },
  );
}
