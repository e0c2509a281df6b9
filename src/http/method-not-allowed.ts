import type { HTTPMethods } from 'fastify';
import { AppError } from '../errors.ts';
import type { ApiInstance } from './api.ts';

/**
 * Collects every route from now on and returns a function that fills the gaps: a path that exists answers
 * its other methods with 405 and `Allow` (RFC 9110 section 15.5.6) instead of 404.
 */
export function watchRoutes(app: ApiInstance): () => void {
  const methodsByUrl = new Map<string, Set<HTTPMethods>>();
  let filling = false;
  app.addHook('onRoute', (route) => {
    // Swagger UI's own files are no resources of the API.
    const isSwaggerUi = route.url === '/docs' || route.url === '/docs/' || route.url.startsWith('/docs/static');
    if (filling || isSwaggerUi) return;
    const methods = methodsByUrl.get(route.url) ?? new Set();
    for (const method of [route.method].flat()) methods.add(method as HTTPMethods);
    methodsByUrl.set(route.url, methods);
  });

  return () => {
    filling = true;
    for (const [url, methods] of methodsByUrl) {
      const allow = [...methods].sort().join(', ');
      app.route({
        method: (app.supportedMethods as HTTPMethods[]).filter((method) => !methods.has(method)),
        url,
        schema: { hide: true },
        onRequest: async (_request, reply) => {
          reply.header('allow', allow);
          throw new AppError('method_not_allowed');
        },
        handler: async () => undefined,
      });
    }
  };
}
