import type { Deps } from '../deps.ts';
import type { ApiInstance } from '../http/api.ts';
import { principalOf } from '../http/bearer-guard.ts';
import { requestContext } from '../http/context.ts';
import type { RouteTools } from '../http/route-tools.ts';
import { emptyResponse, operation } from '../http/schemas.ts';
import { changePassword, resetPassword } from './flow.ts';
import { changePasswordBodySchema, resetPasswordBodySchema } from './schemas.ts';

/** PUT /users/me/password and POST /auth/reset-password. */
export function registerPassword(app: ApiInstance, deps: Deps, { guard, limit }: RouteTools): void {
  app.put(
    '/users/me/password',
    {
      onRequest: [limit('password'), guard],
      schema: operation({
        operationId: 'changePassword',
        tag: 'Account',
        summary: 'Change your password',
        description: 'Needs the current password. Every other session ends, and the owner is told by mail.',
        body: changePasswordBodySchema,
        response: { 204: emptyResponse('The password is changed.') },
        errors: ['invalid_credentials', 'password_rejected', 'too_many_requests'],
        secured: true,
      }),
    },
    async (request, reply) => {
      const { current_password, new_password } = request.body;
      const input = { currentPassword: current_password, newPassword: new_password };
      await changePassword(deps, principalOf(request), input, requestContext(request, reply));
      return reply.status(204).send(null);
    },
  );

  app.post(
    '/auth/reset-password',
    {
      onRequest: limit('reset-password'),
      schema: operation({
        operationId: 'resetPassword',
        tag: 'Authentication',
        summary: 'Reset a forgotten password',
        description:
          'Sets a new password with an address proved for `password_reset`. Every session ends, other codes and proofs of the address die, a change of address under way is cancelled, and the owner is told by mail. Nobody is logged in by it. A refused password leaves the verification token usable.',
        body: resetPasswordBodySchema,
        response: { 204: emptyResponse('The password is set. Log in with it.') },
        errors: ['invalid_verification_token', 'password_rejected', 'too_many_requests'],
      }),
    },
    async (request, reply) => {
      const { verification_token, new_password } = request.body;
      const input = { verificationToken: verification_token, newPassword: new_password };
      await resetPassword(deps, input, requestContext(request, reply));
      return reply.status(204).send(null);
    },
  );
}
