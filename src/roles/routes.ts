import type { Deps } from '../deps.ts';
import type { ApiInstance } from '../http/api.ts';
import { actorOf } from '../http/bearer-guard.ts';
import { requestContext } from '../http/context.ts';
import type { RouteTools } from '../http/route-tools.ts';
import { emptyResponse, operation, schemaRef } from '../http/schemas.ts';
import { listRoles, putRole, removeRole } from './flow.ts';
import { putRoleBodySchema, roleListSchema, roleParamsSchema, roleSchema, toRoleResponse } from './schemas.ts';

/** GET /roles; PUT and DELETE /roles/{name}. */
export function registerRoles(app: ApiInstance, deps: Deps, { guard, limit, requirePermission }: RouteTools): void {
  app.get(
    '/roles',
    {
      onRequest: [limit('read'), guard, requirePermission('roles:read')],
      schema: operation({
        operationId: 'listRoles',
        tag: 'Administration',
        summary: 'List the roles',
        description:
          '`admin` holds every permission of this service and cannot be changed; `user` is what every account begins with.',
        response: { 200: roleListSchema },
        errors: ['too_many_requests'],
        permission: 'roles:read',
      }),
    },
    async (_request, reply) => {
      reply.header('cache-control', 'no-store');
      return { items: (await listRoles(deps)).map(toRoleResponse), next_cursor: null };
    },
  );

  app.put(
    '/roles/:name',
    {
      onRequest: [limit('write'), guard, requirePermission('roles:write')],
      schema: operation({
        operationId: 'putRole',
        tag: 'Administration',
        summary: 'Make or change a role',
        description:
          'Replaces description and permissions. Effective on the next request of everybody who has the role; the tokens that other services verify by themselves have it when they are refreshed. You can give and take only permissions that you hold; who has the role `admin` can give any. Needs an authentication within the last five minutes.',
        params: roleParamsSchema,
        body: putRoleBodySchema,
        response: { 200: schemaRef(roleSchema), 201: schemaRef(roleSchema) },
        errors: ['insufficient_user_authentication', 'protected_role', 'role_limit_reached', 'too_many_requests'],
        permission: 'roles:write',
      }),
    },
    async (request, reply) => {
      const input = { name: request.params.name, definition: request.body };
      const { role, isNew } = await putRole(deps, actorOf(request), input, requestContext(request, reply));
      if (isNew) reply.status(201).header('location', `/roles/${role.name}`);
      return reply.header('cache-control', 'no-store').send(toRoleResponse(role));
    },
  );

  app.delete(
    '/roles/:name',
    {
      onRequest: [limit('write'), guard, requirePermission('roles:write')],
      schema: operation({
        operationId: 'deleteRole',
        tag: 'Administration',
        summary: 'Delete a role',
        description:
          'Everybody who has it loses it on their next request. You can delete only a role whose permissions you hold. Needs an authentication within the last five minutes.',
        params: roleParamsSchema,
        response: { 204: emptyResponse('The role is gone.') },
        errors: ['insufficient_user_authentication', 'not_found', 'protected_role', 'too_many_requests'],
        permission: 'roles:write',
      }),
    },
    async (request, reply) => {
      await removeRole(deps, actorOf(request), request.params.name, requestContext(request, reply));
      return reply.status(204).send(null);
    },
  );
}
