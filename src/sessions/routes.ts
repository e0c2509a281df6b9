import type { Deps } from '../deps.ts';
import { AppError } from '../errors.ts';
import type { ApiInstance } from '../http/api.ts';
import { principalOf, readBearerToken } from '../http/bearer-guard.ts';
import { requestContext } from '../http/context.ts';
import { encodeCursor, pageFields, readPageRequest } from '../http/paging.ts';
import type { RouteTools } from '../http/route-tools.ts';
import { emptyResponse, operation, schemaRef } from '../http/schemas.ts';
import { Type } from '../json-schema.ts';
import { endOtherSessions, endOwnSession, listSessions, logOutByAccessToken, logOutByRefreshToken } from './flow.ts';
import { refreshSession } from './rotation.ts';
import {
  logoutBodySchema,
  refreshBodySchema,
  sessionIdParamsSchema,
  sessionListSchema,
  tokenResponseSchema,
  toSessionResponse,
  toTokenResponse,
} from './schemas.ts';

/** POST /auth/refresh and /auth/logout; GET and DELETE /users/me/sessions, DELETE /users/me/sessions/{id}. */
export function registerSessions(app: ApiInstance, deps: Deps, tools: RouteTools): void {
  registerTokens(app, deps, tools);
  registerOwnSessions(app, deps, tools);
}

function registerTokens(app: ApiInstance, deps: Deps, { limit }: RouteTools): void {
  app.post(
    '/auth/refresh',
    {
      onRequest: limit('refresh'),
      schema: operation({
        operationId: 'refreshSession',
        tag: 'Authentication',
        summary: 'Exchange a refresh token for the next one',
        description:
          'Each refresh token works once. The one just replaced gets the same successor again for `REFRESH_REUSE_GRACE_SECONDS` (30 by default), so parallel tabs and lost replies log nobody out. An older one is taken for stolen: the session ends and the owner is told.',
        body: refreshBodySchema,
        response: { 200: schemaRef(tokenResponseSchema) },
        errors: ['invalid_refresh_token', 'refresh_token_reused', 'too_many_requests'],
      }),
    },
    async (request, reply) => {
      const tokens = await refreshSession(deps, request.body.refresh_token, requestContext(request, reply));
      reply.header('cache-control', 'no-store');
      return toTokenResponse(tokens);
    },
  );

  app.post(
    '/auth/logout',
    {
      onRequest: limit('logout'),
      schema: {
        ...operation({
          operationId: 'logOut',
          tag: 'Authentication',
          summary: 'End the session',
          description:
            'Send the refresh token in the body, or a bearer token and no body. The answer is the same when the session has ended already; the access token stops working here at once.',
          body: logoutBodySchema,
          response: { 204: emptyResponse('The session has ended.') },
          errors: ['authentication_required', 'invalid_token', 'too_many_requests'],
        }),
        security: [{ access_token: [] }, {}],
      },
    },
    async (request, reply) => {
      const context = requestContext(request, reply);
      // The body may be left out, which the type of its schema cannot say.
      const body: typeof request.body | null = request.body ?? null;
      if (body === null) {
        const accessToken = readBearerToken(request);
        if (accessToken === undefined) throw new AppError('authentication_required');
        await logOutByAccessToken(deps, accessToken, context);
      } else {
        await logOutByRefreshToken(deps, body.refresh_token, context);
      }
      return reply.status(204).send(null);
    },
  );
}

function registerOwnSessions(app: ApiInstance, deps: Deps, { guard, limit }: RouteTools): void {
  app.get(
    '/users/me/sessions',
    {
      onRequest: [limit('read'), guard],
      schema: operation({
        operationId: 'listMySessions',
        tag: 'Account',
        summary: 'List your sessions',
        description: 'Where you are logged in, the newest login first. `current` marks the session that asks.',
        querystring: Type.Object(pageFields, { additionalProperties: false }),
        response: { 200: sessionListSchema },
        secured: true,
      }),
    },
    async (request, reply) => {
      const principal = principalOf(request);
      const { items, next } = await listSessions(deps, principal.userId, readPageRequest(request.query));
      reply.header('cache-control', 'no-store');
      return {
        items: items.map((session) => toSessionResponse(session, principal.sessionId)),
        next_cursor: encodeCursor(next),
      };
    },
  );

  app.delete(
    '/users/me/sessions',
    {
      onRequest: [limit('write'), guard],
      schema: operation({
        operationId: 'endMyOtherSessions',
        tag: 'Account',
        summary: 'End all your other sessions',
        description: 'Logs you out everywhere but here. Effective on the next request of each.',
        response: { 204: emptyResponse('All other sessions have ended.') },
        secured: true,
      }),
    },
    async (request, reply) => {
      await endOtherSessions(deps, principalOf(request), requestContext(request, reply));
      return reply.status(204).send(null);
    },
  );

  app.delete(
    '/users/me/sessions/:id',
    {
      onRequest: [limit('write'), guard],
      schema: operation({
        operationId: 'endMySession',
        tag: 'Account',
        summary: 'End one of your sessions',
        description: 'The session that asks may end itself. A session that is not yours is not found.',
        params: sessionIdParamsSchema,
        response: { 204: emptyResponse('The session has ended.') },
        errors: ['not_found'],
        secured: true,
      }),
    },
    async (request, reply) => {
      await endOwnSession(deps, principalOf(request), request.params.id, requestContext(request, reply));
      return reply.status(204).send(null);
    },
  );
}
