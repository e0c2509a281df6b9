import type { FastifyReply, FastifyRequest } from 'fastify';
import type { ApiInstance } from './api.ts';

/** Writes one line for each request, with the route's template instead of the URL, which may hold ids. */
export function registerRequestLog(app: ApiInstance): void {
  app.addHook('onResponse', async (request: FastifyRequest, reply: FastifyReply) => {
    request.log.info(
      {
        method: request.method,
        route: request.routeOptions.url ?? null,
        status: reply.statusCode,
        duration_ms: Math.round(reply.elapsedTime * 10) / 10,
        user_id: request.principal?.userId ?? null,
      },
      'request',
    );
  });
}
