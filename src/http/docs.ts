import { type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from 'fastify';
import type { OpenAPIV3 } from 'openapi-types';
import { AppError } from '../errors.ts';
import type { ApiInstance } from './api.ts';

// Swagger UI sets styles from its script, which only 'unsafe-inline' allows; scripts come from files alone.
const docsContentSecurityPolicy =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const uiPaths = ['/docs', '/docs/', '/docs/json', '/docs/yaml', '/docs/static/*'] as const;
const forwardedRequestHeaders = ['if-none-match', 'if-modified-since', 'range'] as const;
const forwardedReplyHeaders = [
  'content-type',
  'content-security-policy',
  'cache-control',
  'etag',
  'last-modified',
  'accept-ranges',
  'content-range',
  'location',
] as const;

/** Serves the document at /openapi.json and Swagger UI at /docs. Each is made when it is first asked for. */
export function registerDocs(app: ApiInstance): void {
  // Written once: for every request anew it would be the dearest answer that a stranger can ask for.
  let text: string | undefined;
  app.get('/openapi.json', { schema: { hide: true } }, async (_request, reply) => {
    text ??= JSON.stringify(app.swagger());
    return reply.type('application/json; charset=utf-8').send(text);
  });

  let made: Promise<FastifyInstance> | undefined;
  const getUi = () => {
    // A failure, say of a full table of open files, is not kept. The plugin's type of a document is that of OpenAPI 3.0.
    made ??= createUi(app.swagger() as OpenAPIV3.Document).catch((error: unknown) => {
      made = undefined;
      throw error;
    });
    return made;
  };
  const serve = async (request: FastifyRequest, reply: FastifyReply) => forward(await getUi(), request, reply);
  for (const url of uiPaths) app.get(url, { schema: { hide: true } }, serve);
}

/**
 * Makes an application of Swagger UI alone, which listens nowhere. Where nobody opens the page, as in most starts of
 * most installations, its routes and its libraries are neither loaded nor kept.
 */
async function createUi(document: OpenAPIV3.Document): Promise<FastifyInstance> {
  const [{ default: swagger }, { default: swaggerUi }] = await Promise.all([
    import('@fastify/swagger'),
    import('@fastify/swagger-ui'),
  ]);
  const ui = fastify();
  await ui.register(swagger, { mode: 'static', specification: { document } });
  await ui.register(swaggerUi, {
    routePrefix: '/docs',
    staticCSP: docsContentSecurityPolicy,
    uiConfig: { docExpansion: 'list', deepLinking: true, tryItOutEnabled: true, url: '/openapi.json' },
    theme: {
      title: 'Latchkey API',
      // The bar at the top only offers to load other documents.
      css: [{ filename: 'latchkey.css', content: '.swagger-ui .topbar { display: none }' }],
    },
  });
  await ui.ready();
  return ui;
}

async function forward(ui: FastifyInstance, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const given = forwardedRequestHeaders.flatMap((name) => {
    const value = request.headers[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  const answer = await ui.inject({ method: 'GET', url: request.url, headers: Object.fromEntries(given) });
  // In our own words: a refusal of the library's is about a file that there is not, too.
  if (answer.statusCode >= 400) throw new AppError('not_found');
  for (const name of forwardedReplyHeaders) {
    const value = answer.headers[name];
    if (value !== undefined) reply.header(name, value);
  }
  return reply.status(answer.statusCode).send(answer.rawPayload);
}
