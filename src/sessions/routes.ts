import type { Deps } from '../deps.ts';
import { AppError } from '../errors.ts';
import type { ApiInstance } from '../http/api.ts';
import { readBearerToken } from '../http/bearer-guard.ts';
import { requestContext } from '../http/context.ts';
import type { RouteTools } from '../http/route-tools.ts';
import { emptyResponse, operation, schemaRef } from '../http/schemas.ts';
import { logOutByAccessToken, logOutByRefreshToken, refreshSession } from './flow.ts';
import { logoutBodySchema, refreshBodySchema, tokenResponseSchema, toTokenResponse } from './schemas.ts';

/** POST /auth/refresh and POST /auth/logout. */
export function registerSessions(app: ApiInstance, deps: Deps, { limit }: RouteTools): void {
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
      const tokens = await refreshSession(deps, request.body.refresh_token, requestContext(request));
      reply.header('cache-control', 'no-store');
      return toTokenResponse(tokens);
    },
  );

  app.post(
    '/auth/logout',
    {
      onRequest: limit('refresh'),
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
      const context = requestContext(request);
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
