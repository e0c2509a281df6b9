import type { Deps } from '../deps.ts';
import type { ApiInstance } from '../http/api.ts';
import { principalOf } from '../http/bearer-guard.ts';
import { requestContext } from '../http/context.ts';
import type { RouteTools } from '../http/route-tools.ts';
import { emptyResponse, operation, schemaRef } from '../http/schemas.ts';
import { deleteAccount, getAccount, updateAccount } from './flow.ts';
import { toUserResponse, updateBodySchema, userSchema } from './schemas.ts';

/** GET, PATCH and DELETE /users/me. */
export function registerAccount(app: ApiInstance, deps: Deps, { guard }: RouteTools): void {
  app.get(
    '/users/me',
    {
      onRequest: guard,
      schema: operation({
        operationId: 'getMe',
        tag: 'Account',
        summary: 'Read your account',
        description: 'The account that the access token stands for, as it is now.',
        response: { 200: schemaRef(userSchema) },
        secured: true,
      }),
    },
    async (request, reply) => {
      reply.header('cache-control', 'no-store');
      return toUserResponse(await getAccount(deps.db, principalOf(request).userId));
    },
  );

  app.patch(
    '/users/me',
    {
      onRequest: guard,
      schema: operation({
        operationId: 'updateMe',
        tag: 'Account',
        summary: 'Change your profile',
        description:
          'Fields that are left out stay as they are; `null` clears `name` and `locale`; `metadata` is replaced as a whole. Address, status, roles and password have operations of their own.',
        body: updateBodySchema,
        response: { 200: schemaRef(userSchema) },
        secured: true,
      }),
    },
    async (request, reply) => {
      reply.header('cache-control', 'no-store');
      return toUserResponse(await updateAccount(deps, principalOf(request), request.body, requestContext(request)));
    },
  );

  app.delete(
    '/users/me',
    {
      onRequest: guard,
      schema: operation({
        operationId: 'deleteMe',
        tag: 'Account',
        summary: 'Delete your account',
        description:
          'Removes the account with its sessions, roles, codes and waiting mail. It cannot be undone, and a later account at the same address is a new one. Needs an authentication within the last five minutes.',
        response: { 204: emptyResponse('The account is gone.') },
        errors: ['insufficient_user_authentication'],
        secured: true,
      }),
    },
    async (request, reply) => {
      await deleteAccount(deps, principalOf(request), requestContext(request));
      return reply.status(204).send(null);
    },
  );
}
