import type { Deps } from '../deps.ts';
import type { ApiInstance } from '../http/api.ts';
import { encodeCursor, readPageRequest } from '../http/paging.ts';
import type { RouteTools } from '../http/route-tools.ts';
import { operation } from '../http/schemas.ts';
import { listEvents } from './flow.ts';
import { auditEventListSchema, auditEventQuerySchema, toAuditEventResponse } from './schemas.ts';

/** GET /audit-events. */
export function registerAudit(app: ApiInstance, deps: Deps, { guard, limit, requirePermission }: RouteTools): void {
  app.get(
    '/audit-events',
    {
      onRequest: [limit('read'), guard, requirePermission('audit:read')],
      schema: operation({
        operationId: 'listAuditEvents',
        tag: 'Administration',
        summary: 'List audit events',
        description: 'Who did what to whom, the newest first. The filters can be combined.',
        querystring: auditEventQuerySchema,
        response: { 200: auditEventListSchema },
        errors: ['too_many_requests'],
        permission: 'audit:read',
      }),
    },
    async (request, reply) => {
      const { user_id: userId, type, since, until } = request.query;
      const filter = { userId, type, sinceMs: readTime(since), untilMs: readTime(until) };
      const { items, next } = await listEvents(deps.db, filter, readPageRequest(request.query));
      reply.header('cache-control', 'no-store');
      return { items: items.map(toAuditEventResponse), next_cursor: encodeCursor(next) };
    },
  );
}

function readTime(text: string | undefined): number | undefined {
  return text === undefined ? undefined : Date.parse(text);
}
