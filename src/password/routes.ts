import type { Deps } from '../deps.ts';
import type { ApiInstance } from '../http/api.ts';
import { principalOf } from '../http/bearer-guard.ts';
import { requestContext } from '../http/context.ts';
import type { RouteTools } from '../http/route-tools.ts';
import { emptyResponse, operation } from '../http/schemas.ts';
import { changePassword } from './flow.ts';
import { changePasswordBodySchema } from './schemas.ts';

/** PUT /users/me/password. */
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
      await changePassword(deps, principalOf(request), input, requestContext(request));
      return reply.status(204).send(null);
    },
  );
}
