import { toUserResponse, userSchema } from '../account/schemas.ts';
import type { Deps } from '../deps.ts';
import { canonicalEmailAddress } from '../email-address.ts';
import type { ApiInstance } from '../http/api.ts';
import { actorOf, principalOf } from '../http/bearer-guard.ts';
import { requestContext } from '../http/context.ts';
import { encodeCursor, encodeTextCursor, pageFields, readPageRequest, readTextCursor } from '../http/paging.ts';
import type { RouteTools } from '../http/route-tools.ts';
import { emptyResponse, operation, schemaRef } from '../http/schemas.ts';
import { Type } from '../json-schema.ts';
import { listSessions } from '../sessions/flow.ts';
import { sessionListSchema, toSessionResponse } from '../sessions/schemas.ts';
import { assignRoles, changeUser, deleteUserByAdministrator, endUserSessions } from './changes.ts';
import { createUser, getUser } from './flow.ts';
import {
  createUserBodySchema,
  patchUserBodySchema,
  putRolesBodySchema,
  userListSchema,
  userParamsSchema,
  userQuerySchema,
} from './schemas.ts';
import { listUsers, type UserPosition } from './search.ts';

/** GET and POST /users; GET, PATCH and DELETE /users/{id}; PUT /users/{id}/roles; GET and DELETE /users/{id}/sessions. */
export function registerUsers(app: ApiInstance, deps: Deps, tools: RouteTools): void {
  registerSearch(app, deps, tools);
  registerInvitation(app, deps, tools);
  registerChanges(app, deps, tools);
  registerSessionsOfUsers(app, deps, tools);
}

function registerSearch(app: ApiInstance, deps: Deps, { guard, limit, requirePermission }: RouteTools): void {
  app.get(
    '/users',
    {
      onRequest: [limit('read'), guard, requirePermission('users:read')],
      schema: operation({
        operationId: 'listUsers',
        tag: 'Administration',
        summary: 'Search users',
        description:
          'The newest first; with `email`, in the order of addresses. The filters can be combined. A page may then hold fewer users than `limit`, even none: go on while there is a `next_cursor`, with the same filters.',
        querystring: userQuerySchema,
        response: { 200: userListSchema },
        errors: ['too_many_requests'],
        permission: 'users:read',
      }),
    },
    async (request, reply) => {
      const { email, status, role } = request.query;
      const { limit: size, after } = readUserPage(request.query);
      const { items, next } = await listUsers(deps, { email, status, role, limit: size, after });
      reply.header('cache-control', 'no-store');
      return { items: items.map(toUserResponse), next_cursor: encodePosition(next) };
    },
  );

  app.get(
    '/users/:id',
    {
      onRequest: [limit('read'), guard, requirePermission('users:read')],
      schema: operation({
        operationId: 'getUser',
        tag: 'Administration',
        summary: 'Read a user',
        description: 'The account as it is now.',
        params: userParamsSchema,
        response: { 200: schemaRef(userSchema) },
        errors: ['not_found', 'too_many_requests'],
        permission: 'users:read',
      }),
    },
    async (request, reply) => {
      reply.header('cache-control', 'no-store');
      return toUserResponse(await getUser(deps, request.params.id));
    },
  );
}

function registerInvitation(app: ApiInstance, deps: Deps, { guard, limit, requirePermission }: RouteTools): void {
  app.post(
    '/users',
    {
      onRequest: [limit('write'), guard, requirePermission('users:write')],
      schema: operation({
        operationId: 'createUser',
        tag: 'Administration',
        summary: 'Invite a user',
        description:
          'Makes an account that waits for its owner, and mails a code for `registration` to the address. Whoever registers with it gets this account, with its id and roles; when the code has expired, `POST /auth/send-code` sends another. Roles other than `user` also need `roles:assign` and an authentication within the last five minutes. The address may have been mailed so often that it gets no code now: then nothing is made.',
        body: createUserBodySchema,
        response: { 201: schemaRef(userSchema) },
        errors: ['insufficient_user_authentication', 'account_exists', 'too_many_requests'],
        permission: 'users:write',
      }),
    },
    async (request, reply) => {
      const { email, roles, ...profile } = request.body;
      const input = { email, profile, roles };
      const account = await createUser(deps, actorOf(request), input, requestContext(request, reply));
      return reply
        .status(201)
        .header('cache-control', 'no-store')
        .header('location', `/users/${account.id}`)
        .send(toUserResponse(account));
    },
  );
}

function registerChanges(app: ApiInstance, deps: Deps, { guard, limit, requirePermission }: RouteTools): void {
  app.patch(
    '/users/:id',
    {
      onRequest: [limit('write'), guard, requirePermission('users:write')],
      schema: operation({
        operationId: 'updateUser',
        tag: 'Administration',
        summary: 'Change, disable or enable a user',
        description:
          'Fields that are left out stay as they are; `null` clears `name` and `locale`; `metadata` is replaced as a whole. Disabling ends every session at once. A new `email` is taken as proved: it ends every session, and the old address is told; an invited user is invited again there. `status` and `email` need an authentication within the last five minutes. You cannot change a user who holds permissions that you do not.',
        params: userParamsSchema,
        body: patchUserBodySchema,
        response: { 200: schemaRef(userSchema) },
        errors: [
          'insufficient_user_authentication',
          'not_found',
          'account_exists',
          'last_administrator',
          'address_not_proved',
          'too_many_requests',
        ],
        permission: 'users:write',
      }),
    },
    async (request, reply) => {
      const { id } = request.params;
      const account = await changeUser(deps, actorOf(request), id, request.body, requestContext(request, reply));
      reply.header('cache-control', 'no-store');
      return toUserResponse(account);
    },
  );

  app.delete(
    '/users/:id',
    {
      onRequest: [limit('write'), guard, requirePermission('users:write')],
      schema: operation({
        operationId: 'deleteUser',
        tag: 'Administration',
        summary: 'Delete a user',
        description:
          'Removes the account with its sessions, roles, codes and waiting mail, as `DELETE /users/me` does; an invitation is withdrawn. You cannot delete a user who holds permissions that you do not. Needs an authentication within the last five minutes.',
        params: userParamsSchema,
        response: { 204: emptyResponse('The account is gone.') },
        errors: ['insufficient_user_authentication', 'not_found', 'last_administrator', 'too_many_requests'],
        permission: 'users:write',
      }),
    },
    async (request, reply) => {
      await deleteUserByAdministrator(deps, actorOf(request), request.params.id, requestContext(request, reply));
      return reply.status(204).send(null);
    },
  );

  app.put(
    '/users/:id/roles',
    {
      onRequest: [limit('write'), guard, requirePermission('roles:assign')],
      schema: operation({
        operationId: 'assignRoles',
        tag: 'Administration',
        summary: 'Set the roles of a user',
        description:
          'Replaces all of them. Effective on the next request of the user; the tokens that other services verify by themselves have them when they are refreshed. You can give and take only roles whose permissions you hold, and `admin` only if you have it. Needs an authentication within the last five minutes.',
        params: userParamsSchema,
        body: putRolesBodySchema,
        response: { 200: schemaRef(userSchema) },
        errors: ['insufficient_user_authentication', 'not_found', 'last_administrator', 'too_many_requests'],
        permission: 'roles:assign',
      }),
    },
    async (request, reply) => {
      const { id } = request.params;
      const { roles } = request.body;
      const account = await assignRoles(deps, actorOf(request), id, roles, requestContext(request, reply));
      reply.header('cache-control', 'no-store');
      return toUserResponse(account);
    },
  );
}

function registerSessionsOfUsers(app: ApiInstance, deps: Deps, { guard, limit, requirePermission }: RouteTools): void {
  app.get(
    '/users/:id/sessions',
    {
      onRequest: [limit('read'), guard, requirePermission('sessions:read')],
      schema: operation({
        operationId: 'listUserSessions',
        tag: 'Administration',
        summary: 'List the sessions of a user',
        description: 'Where the user is logged in, the newest login first.',
        params: userParamsSchema,
        querystring: Type.Object(pageFields, { additionalProperties: false }),
        response: { 200: sessionListSchema },
        errors: ['not_found', 'too_many_requests'],
        permission: 'sessions:read',
      }),
    },
    async (request, reply) => {
      const { id } = await getUser(deps, request.params.id);
      const { sessionId } = principalOf(request);
      const { items, next } = await listSessions(deps, id, readPageRequest(request.query));
      reply.header('cache-control', 'no-store');
      return { items: items.map((session) => toSessionResponse(session, sessionId)), next_cursor: encodeCursor(next) };
    },
  );

  app.delete(
    '/users/:id/sessions',
    {
      onRequest: [limit('write'), guard, requirePermission('sessions:write')],
      schema: operation({
        operationId: 'endUserSessions',
        tag: 'Administration',
        summary: 'End every session of a user',
        description:
          'Logs the user out everywhere, effective on the next request of each session. You cannot do that to a user who holds permissions that you do not.',
        params: userParamsSchema,
        response: { 204: emptyResponse('Every session has ended.') },
        errors: ['not_found', 'too_many_requests'],
        permission: 'sessions:write',
      }),
    },
    async (request, reply) => {
      await endUserSessions(deps, actorOf(request), request.params.id, requestContext(request, reply));
      return reply.status(204).send(null);
    },
  );
}

type UserPageQuery = { email?: string; limit?: number; cursor?: string };

/** Reads where the page begins, in the order that the filters give the list. */
function readUserPage(query: UserPageQuery): { limit: number; after: UserPosition | undefined } {
  const { email, cursor, ...rest } = query;
  if (email === undefined || cursor === undefined) return readPageRequest(query);
  const isAddress = (text: string) => canonicalEmailAddress(text) === text;
  return { ...readPageRequest(rest), after: { email: readTextCursor(cursor, isAddress) } };
}

function encodePosition(position: UserPosition | undefined): string | null {
  if (position !== undefined && 'email' in position) return encodeTextCursor(position.email);
  return encodeCursor(position);
}
