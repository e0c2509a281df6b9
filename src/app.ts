import cors from '@fastify/cors';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import { type FastifyRequest, fastify, LogController } from 'fastify';
import { registerAccount } from './account/routes.ts';
import { userSchema } from './account/schemas.ts';
import { registerAudit } from './audit/routes.ts';
import { auditEventSchema } from './audit/schemas.ts';
import { servesMailbox } from './config.ts';
import { newId } from './crypto/ids.ts';
import type { Deps } from './deps.ts';
import { AppError } from './errors.ts';
import type { ApiInstance } from './http/api.ts';
import { createBearerGuard, requirePermission } from './http/bearer-guard.ts';
import { type ConnectionErrors, createConnectionErrors } from './http/connection-errors.ts';
import {
  type ConnectionLimits,
  connectionLimits,
  connectionOptions,
  limitConnections,
  refuseManyHeaders,
} from './http/connection-limits.ts';
import { registerDocs } from './http/docs.ts';
import { registerErrorPage } from './http/error-page.ts';
import { requireOneHost, requirePlainUtf8 } from './http/headers.ts';
import { registerHealth } from './http/health.ts';
import { parseJsonBody } from './http/json-body.ts';
import { watchRoutes } from './http/method-not-allowed.ts';
import { registerMetrics } from './http/metrics.ts';
import { registerOpenApi } from './http/openapi.ts';
import { sendProblem } from './http/problem.ts';
import { createRateLimits } from './http/rate-limits.ts';
import { createRequestLog, type RequestLog } from './http/request-log.ts';
import type { RouteTools } from './http/route-tools.ts';
import { problemSchema } from './http/schemas.ts';
import { registerSecurityHeaders } from './http/security-headers.ts';
import { buildSerializer } from './http/serialization.ts';
import { compileValidator } from './http/validation.ts';
import { registerKeys } from './keys/routes.ts';
import { registerLogin } from './login/routes.ts';
import { registerMailbox } from './mail/routes.ts';
import { registerPassword } from './password/routes.ts';
import { registerRegistration } from './registration/routes.ts';
import { registerRoles } from './roles/routes.ts';
import { roleSchema } from './roles/schemas.ts';
import { registerSessions } from './sessions/routes.ts';
import { loginResponseSchema, sessionSchema, tokenResponseSchema } from './sessions/schemas.ts';
import { registerUsers } from './users/routes.ts';
import { registerVerification } from './verification/routes.ts';

const bodyLimitBytes = 32 * 1024;

/** Builds the HTTP application: plugins, error handling, then every feature in order. */
export async function buildApp(deps: Deps, limits = connectionLimits): Promise<ApiInstance> {
  const { DOCS, METRICS_TOKEN, PUBLIC_URL } = deps.config.environment;
  const { app, finish } = createInstance(deps, limits);
  app.setValidatorCompiler(compileValidator);
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, async (request: FastifyRequest, body: Buffer) => {
    requirePlainUtf8(request);
    return parseJsonBody(body);
  });
  const tokenSchemas = [tokenResponseSchema, loginResponseSchema];
  for (const schema of [problemSchema, userSchema, sessionSchema, ...tokenSchemas, roleSchema, auditEventSchema])
    app.addSchema(schema);

  registerSecurityHeaders(app, { isHttps: PUBLIC_URL.startsWith('https:') });
  await registerCors(app, deps);
  await registerOpenApi(app, METRICS_TOKEN !== undefined);
  const answerOtherMethods = watchRoutes(app);

  app.decorateRequest('counted', null);
  const { limit, limitAccount } = createRateLimits(deps);
  app.addHook('preHandler', limitAccount);
  const tools: RouteTools = { guard: createBearerGuard(deps), requirePermission, limit };
  registerVerification(app, deps, tools);
  registerRegistration(app, deps, tools);
  registerLogin(app, deps, tools);
  registerSessions(app, deps, tools);
  registerPassword(app, deps, tools);
  registerAccount(app, deps, tools);
  registerUsers(app, deps, tools);
  registerRoles(app, deps, tools);
  registerAudit(app, deps, tools);
  registerKeys(app, deps);
  registerHealth(app, deps);
  if (METRICS_TOKEN !== undefined) registerMetrics(app, deps);
  registerErrorPage(app);
  if (deps.mailbox !== undefined && servesMailbox(deps.config)) registerMailbox(app, deps, deps.mailbox);
  if (DOCS === 'on') registerDocs(app);
  answerOtherMethods();
  return finish();
}

/** Builds what listens on METRICS_PORT: the metrics and nothing else. */
export async function buildMetricsApp(deps: Deps): Promise<ApiInstance> {
  const { app, finish } = createInstance(deps, connectionLimits);
  app.addSchema(problemSchema);
  const answerOtherMethods = watchRoutes(app);
  registerMetrics(app, deps);
  answerOtherMethods();
  return finish();
}

/** A server, and what is done with it when it has its routes. */
type Instance = { app: ApiInstance; finish: () => Promise<ApiInstance> };

/** Makes what every listener has: limits, one line for each request, and a problem document for every error. */
function createInstance(deps: Deps, limits: ConnectionLimits): Instance {
  const { PUBLIC_URL } = deps.config.environment;
  const requestLog = createRequestLog(deps.log, deps.metrics);
  const connectionErrors = createConnectionErrors(PUBLIC_URL, requestLog);
  const app = createServer(deps, { connectionErrors, requestLog, limits });
  app.setErrorHandler((error, request, reply) => sendProblem(request, reply, PUBLIC_URL, error));
  app.setNotFoundHandler((request, reply) => sendProblem(request, reply, PUBLIC_URL, new AppError('not_found')));
  app.decorateRequest('principal', null);
  requestLog.register(app);
  app.addHook('onRequest', requireOneHost);
  app.addHook('onRequest', refuseManyHeaders);
  // Whoever reuses a connection in the moment of a stop is answered, and told to reuse it no more.
  app.addHook('onSend', (_request, reply, payload, done) => {
    if (deps.isStopping()) reply.header('connection', 'close');
    done(null, payload);
  });
  const finish = async () => {
    app.server.prependListener('request', connectionErrors.watchRequest);
    limitConnections(app, limits, deps.log);
    app.server.on('checkExpectation', connectionErrors.refuseExpectation);
    await app.ready();
    return app;
  };
  return { app, finish };
}

type ServerParts = { connectionErrors: ConnectionErrors; requestLog: RequestLog; limits: ConnectionLimits };

function createServer({ config, log }: Deps, parts: ServerParts): ApiInstance {
  const { PUBLIC_URL } = config.environment;
  const { connectionErrors, requestLog, limits } = parts;
  return fastify({
    loggerInstance: log,
    trustProxy: config.trustedProxies.length === 0 ? false : [...config.trustedProxies],
    bodyLimit: bodyLimitBytes,
    ...connectionOptions(limits),
    genReqId: () => newId(),
    // An id of the caller's own could forge the trail in the log.
    requestIdHeader: false,
    schemaController: { compilersFactory: { buildSerializer } },
    logController: new LogController({ requestIdLogLabel: 'request_id', disableRequestLogging: true }),
    routerOptions: { ignoreTrailingSlash: false, caseSensitive: true, maxParamLength: 128 },
    frameworkErrors: (error, request, reply) => {
      sendProblem(request, reply, PUBLIC_URL, error);
      // The router refused it before any hook.
      requestLog.noteRefusal({ requestId: request.id, method: request.method, status: reply.statusCode });
    },
    clientErrorHandler: connectionErrors.answerClientError,
    return503OnClosing: false,
    forceCloseConnections: 'idle',
  }).withTypeProvider<TypeBoxTypeProvider>();
}

async function registerCors(app: ApiInstance, { config }: Deps): Promise<void> {
  if (config.corsOrigins.length === 0) return;
  await app.register(cors, {
    origin: [...config.corsOrigins],
    methods: ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'],
    allowedHeaders: ['authorization', 'content-type'],
    exposedHeaders: ['retry-after', 'ratelimit', 'ratelimit-policy', 'www-authenticate', 'location'],
    credentials: false,
    // An OPTIONS that is no preflight gets the preflight's answer rather than the plugin's plain text.
    strictPreflight: false,
    maxAge: 600,
  });
}
