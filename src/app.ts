import cors from '@fastify/cors';
import helmet from '@fastify/helmet';
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
import { registerErrorPage } from './http/error-page.ts';
import { requireOneHost, requirePlainUtf8 } from './http/headers.ts';
import { registerHealth } from './http/health.ts';
import { parseJsonBody } from './http/json-body.ts';
import { watchRoutes } from './http/method-not-allowed.ts';
import { registerDocs, registerOpenApi } from './http/openapi.ts';
import { sendProblem } from './http/problem.ts';
import { createRateLimits } from './http/rate-limits.ts';
import { registerRequestLog } from './http/request-log.ts';
import type { RouteTools } from './http/route-tools.ts';
import { problemSchema } from './http/schemas.ts';
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
const requestTimeoutMs = 15_000;
const keepAliveTimeoutMs = 65_000;

/** Builds the HTTP application: plugins, error handling, then every feature in order. */
export async function buildApp(deps: Deps): Promise<ApiInstance> {
  const { PUBLIC_URL, DOCS } = deps.config.environment;
  const connectionErrors = createConnectionErrors(PUBLIC_URL);
  const app = createInstance(deps, connectionErrors);
  app.setErrorHandler((error, request, reply) => sendProblem(request, reply, PUBLIC_URL, error));
  app.setNotFoundHandler((request, reply) => sendProblem(request, reply, PUBLIC_URL, new AppError('not_found')));
  app.setValidatorCompiler(compileValidator);
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, async (request: FastifyRequest, body: Buffer) => {
    requirePlainUtf8(request);
    return parseJsonBody(body);
  });
  const tokenSchemas = [tokenResponseSchema, loginResponseSchema];
  for (const schema of [problemSchema, userSchema, sessionSchema, ...tokenSchemas, roleSchema, auditEventSchema])
    app.addSchema(schema);
  app.decorateRequest('principal', null);

  registerRequestLog(app);
  app.addHook('onRequest', requireOneHost);
  await registerSecurityHeaders(app, deps);
  await registerOpenApi(app);
  const answerOtherMethods = watchRoutes(app);

  const tools: RouteTools = { guard: createBearerGuard(deps), requirePermission, limit: createRateLimits(deps) };
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
  registerErrorPage(app);
  if (deps.mailbox !== undefined && servesMailbox(deps.config)) registerMailbox(app, deps, deps.mailbox);
  if (DOCS === 'on') await registerDocs(app);
  answerOtherMethods();
  app.server.prependListener('request', connectionErrors.watchRequest);
  app.server.on('checkExpectation', connectionErrors.refuseExpectation);
  await app.ready();
  return app;
}

function createInstance({ config, log }: Deps, { answerClientError }: ConnectionErrors): ApiInstance {
  const { PUBLIC_URL } = config.environment;
  return fastify({
    loggerInstance: log,
    trustProxy: config.trustedProxies.length === 0 ? false : [...config.trustedProxies],
    bodyLimit: bodyLimitBytes,
    requestTimeout: requestTimeoutMs,
    keepAliveTimeout: keepAliveTimeoutMs,
    genReqId: () => newId(),
    // An id of the caller's own could forge the trail in the log.
    requestIdHeader: false,
    logController: new LogController({ requestIdLogLabel: 'request_id', disableRequestLogging: true }),
    routerOptions: { ignoreTrailingSlash: false, caseSensitive: true, maxParamLength: 128 },
    frameworkErrors: (error, request, reply) => sendProblem(request, reply, PUBLIC_URL, error),
    clientErrorHandler: answerClientError,
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    // Refused by a hook of ours, with a problem document.
    http: { requireHostHeader: false },
  }).withTypeProvider<TypeBoxTypeProvider>();
}

async function registerSecurityHeaders(app: ApiInstance, { config }: Deps): Promise<void> {
  const isHttps = config.environment.PUBLIC_URL.startsWith('https:');
  await app.register(helmet, {
    // The API answers with JSON; the few pages set a policy of their own.
    contentSecurityPolicy: { useDefaults: false, directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] } },
    strictTransportSecurity: isHttps ? { maxAge: 31_536_000, includeSubDomains: false } : false,
    frameguard: { action: 'deny' },
    referrerPolicy: { policy: 'no-referrer' },
    crossOriginResourcePolicy: { policy: 'same-origin' },
  });
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
