import helmet from '@fastify/helmet';
import { type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from 'fastify';
import { type Caller, createVerifier, type TokenSource } from './access-tokens.ts';
import { createNotes } from './notes.ts';
import { registerPage } from './page.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Who calls, once their token is verified. */
    caller?: Caller;
  }
}

/** The permission that a role must hold for the numbers of all users. Applications name theirs `app:…`. */
const statisticsPermission = 'app:notes:statistics';
const serviceTimeoutMs = 5_000;

const noteSchema = {
  type: 'object',
  properties: { text: { type: 'string', minLength: 1, maxLength: 500 } },
  required: ['text'],
  additionalProperties: false,
} as const;
const idSchema = { type: 'object', properties: { id: { type: 'string', format: 'uuid' } } } as const;

/** Builds the application: a page, and an API that takes the access tokens of the service and nothing else. */
export async function buildNotesApi(options: TokenSource & { clientFolder: string }): Promise<FastifyInstance> {
  const app = fastify({ bodyLimit: 4_096, ajv: { customOptions: { removeAdditional: false } } });
  await app.register(helmet, { contentSecurityPolicy: contentSecurityPolicy(options.issuer) });
  await registerPage(app, options);
  // In a scope of its own, so that no route of the API can be added past the guard.
  await app.register(async (api) => registerApi(api, options), { prefix: '/api' });
  return app;
}

/** Nothing but our own scripts and styles, and no connection but to us and the service. */
function contentSecurityPolicy(issuer: string) {
  const directives = {
    defaultSrc: ["'none'"],
    scriptSrc: ["'self'"],
    styleSrc: ["'self'"],
    connectSrc: ["'self'", issuer],
    formAction: ["'self'"],
    baseUri: ["'none'"],
    frameAncestors: ["'none'"],
    // Text cannot become markup or a script by accident.
    requireTrustedTypesFor: ["'script'"],
  };
  return { useDefaults: false, directives };
}

async function registerApi(api: FastifyInstance, options: TokenSource): Promise<void> {
  const verify = createVerifier(options);
  const notes = createNotes();

  api.addHook('onRequest', async (request, reply) => {
    reply.header('cache-control', 'no-store');
    const token = readBearer(request);
    const caller = token === undefined ? undefined : await verify(token).catch(() => null);
    if (caller === null) return refuse(reply, 503, 'keys_unavailable');
    if (caller === undefined) return refuse(reply, 401, 'invalid_token');
    request.caller = caller;
  });

  api.get('/notes', async (request) => ({ items: notes.list(callerOf(request).userId) }));

  api.post<{ Body: { text: string } }>('/notes', { schema: { body: noteSchema } }, async (request, reply) => {
    const note = notes.add(callerOf(request).userId, request.body.text);
    return note === undefined ? refuse(reply, 409, 'too_many_notes') : reply.status(201).send(note);
  });

  api.delete<{ Params: { id: string } }>('/notes/:id', { schema: { params: idSchema } }, async (request, reply) => {
    // Another's note is not found, the same as none.
    const isRemoved = notes.remove(callerOf(request).userId, request.params.id);
    return isRemoved ? reply.status(204).send() : refuse(reply, 404, 'not_found');
  });

  // What cannot be undone is not done on the word of a token whose session may be over: the service is asked.
  api.delete('/notes', async (request, reply) => {
    const verdict = await askService(options.issuer, readBearer(request) ?? '');
    if (verdict === 'ended') return refuse(reply, 401, 'invalid_token');
    if (verdict === 'unknown') return refuse(reply, 503, 'service_unavailable');
    notes.removeAll(callerOf(request).userId);
    return reply.status(204).send();
  });

  api.get('/statistics', async (request, reply) => {
    const isAllowed = callerOf(request).permissions.includes(statisticsPermission);
    return isAllowed ? { items: notes.countByUser() } : refuse(reply, 403, 'insufficient_permission');
  });
}

/** Asks the service whether the session of a token still lives; it knows of a logout at once. */
async function askService(issuer: string, token: string): Promise<'live' | 'ended' | 'unknown'> {
  try {
    const headers = { authorization: `Bearer ${token}` };
    const signal = AbortSignal.timeout(serviceTimeoutMs);
    const { status } = await fetch(`${issuer}/users/me`, { headers, signal, redirect: 'error' });
    return status === 200 ? 'live' : status === 401 ? 'ended' : 'unknown';
  } catch {
    return 'unknown';
  }
}

function readBearer(request: FastifyRequest): string | undefined {
  return /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1];
}

function callerOf(request: FastifyRequest): Caller {
  if (request.caller === undefined) throw new Error('the route is not behind the guard');
  return request.caller;
}

function refuse(reply: FastifyReply, status: number, code: string): FastifyReply {
  if (status === 401) reply.header('www-authenticate', `Bearer error="${code}"`);
  return reply.status(status).send({ status, code });
}
