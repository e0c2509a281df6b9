import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import type { Deps } from '../deps.ts';
import { AppError } from '../errors.ts';
import { Type } from '../json-schema.ts';
import type { ApiInstance } from './api.ts';
import { readBearerToken } from './bearer-guard.ts';
import { operation } from './schemas.ts';

// Prometheus' text format.
const contentType = 'text/plain; version=0.0.4; charset=utf-8';

const metricsSchema = Type.String({
  description: 'Each metric is described in docs/metrics.md.',
  examples: ['# TYPE latchkey_registrations_total counter\nlatchkey_registrations_total 3\n'],
});

/** GET /metrics, for whoever has METRICS_TOKEN, or for everybody who reaches the listener where there is none. */
export function registerMetrics(app: ApiInstance, { config, scrape }: Deps): void {
  const { METRICS_TOKEN } = config.environment;
  const schema = operation({
    operationId: 'getMetrics',
    tag: 'Service',
    summary: 'Metrics for Prometheus',
    description:
      'In Prometheus’ text format (`version=0.0.4`), for whoever has `METRICS_TOKEN`. Absent where the operator has set none. They hold neither addresses nor ids.',
    response: { 200: { description: 'The metrics.', content: { 'text/plain': { schema: metricsSchema } } } },
    errors: ['authentication_required', 'invalid_token'],
  });
  app.get(
    '/metrics',
    {
      ...(METRICS_TOKEN === undefined ? {} : { onRequest: createTokenCheck(METRICS_TOKEN) }),
      schema: { ...schema, security: [{ metrics_token: [] }] },
    },
    async (_request, reply) => {
      reply.type(contentType).header('cache-control', 'no-store');
      // Text already: the schema is for the document.
      return reply.serializer((text: unknown) => text as string).send((await scrape()) as never);
    },
  );
}

/** Digests of the same length are compared, so that the time tells nothing of the token, nor of how long it is. */
function createTokenCheck(token: string): (request: FastifyRequest) => Promise<void> {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  const expected = digest(token);
  return async (request) => {
    const given = readBearerToken(request);
    if (given === undefined) throw new AppError('authentication_required');
    if (!timingSafeEqual(digest(given), expected)) throw new AppError('invalid_token');
  };
}
