import type { FastifyError, FastifyReply, FastifyRequest, FastifySchemaValidationError } from 'fastify';
import { HashAbandonedError, HashQueueFullError } from '../crypto/hash-pool.ts';
import { isDatabaseUnavailable } from '../db/failures.ts';
import { AppError, type ErrorCode, errorCatalogue, type FieldError } from '../errors.ts';
import { escapePointer } from '../strict-json.ts';
import type { Problem } from './schemas.ts';

const maxFieldErrors = 20;
const retryAfterSeconds = 5;

/** Set on every problem document, also where the request was refused before any plugin saw it. */
export const problemHeaders = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none';frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
};

/** Where the explanation of a code is served. */
function problemType(publicUrl: string, code: ErrorCode): string {
  return `${publicUrl}/docs/errors#${code}`;
}

/** Builds the problem document of an error. */
export function toProblem(error: AppError, publicUrl: string, requestId: string): Problem {
  const { status, title } = errorCatalogue[error.code];
  return {
    type: problemType(publicUrl, error.code),
    title,
    status,
    code: error.code,
    ...(error.detail === undefined ? {} : { detail: error.detail }),
    ...(error.errors === undefined ? {} : { errors: error.errors.slice(0, maxFieldErrors) }),
    ...(error.maxAgeSeconds === undefined ? {} : { max_age: error.maxAgeSeconds }),
    request_id: requestId,
  };
}

/** Answers a request with an error: the caller gets the code, the log gets the cause. */
export function sendProblem(request: FastifyRequest, reply: FastifyReply, publicUrl: string, thrown: unknown): void {
  const error = toAppError(thrown, request);
  const problem = toProblem(error, publicUrl, request.id);
  logProblem(request, error);
  reply.status(problem.status).type('application/problem+json').headers(problemHeaders);
  const challenge = bearerChallenge(error);
  if (challenge !== undefined) reply.header('www-authenticate', challenge);
  if (error.retryAfterSeconds !== undefined) reply.header('retry-after', error.retryAfterSeconds);
  // Serialised here, so that an error is answered whatever response schemas the route declares.
  reply.serializer((payload: unknown) => payload as string).send(JSON.stringify(problem));
}

// Only what the operator should look at is an error. Of a refusal no more than the names is logged: the cause may
// quote the body.
function logProblem({ log }: FastifyRequest, error: AppError): void {
  const { code, cause } = error;
  const isFailure = errorCatalogue[code].status >= 500 && !(cause instanceof HashAbandonedError);
  if (isFailure) log.error({ err: cause ?? error, error_code: code }, 'request failed');
  else if (cause instanceof Error) {
    log.debug({ error_code: code, reason: 'code' in cause ? cause.code : cause.name }, 'request refused');
  }
}

/** RFC 6750 section 3: no error code where no credentials were sent; RFC 9470 section 3 for step-up. */
function bearerChallenge(error: AppError): string | undefined {
  if (error.code === 'insufficient_permission') {
    const scope = error.scope === undefined ? '' : `, scope="${error.scope}"`;
    return `Bearer realm="latchkey", error="insufficient_scope", error_description="${errorCatalogue[error.code].title}"${scope}`;
  }
  if (errorCatalogue[error.code].status !== 401) return undefined;
  if (error.code === 'authentication_required') return 'Bearer realm="latchkey"';
  const maxAge = error.maxAgeSeconds === undefined ? '' : `, max_age="${error.maxAgeSeconds}"`;
  return `Bearer realm="latchkey", error="${error.code}", error_description="${errorCatalogue[error.code].title}"${maxAge}`;
}

function toAppError(thrown: unknown, request: FastifyRequest): AppError {
  if (thrown instanceof AppError) return withRetryAfter(thrown);
  // Fastify gives a status to what the client caused, also to a connection that it reset. Judged first, that is
  // never taken for a failure of ours.
  if (isClientFault(thrown)) return fromFastify(thrown, request);
  if (thrown instanceof HashQueueFullError || thrown instanceof HashAbandonedError || isDatabaseUnavailable(thrown)) {
    return new AppError('temporarily_unavailable', { retryAfterSeconds, cause: thrown });
  }
  return new AppError('internal_error', { cause: thrown });
}

function isClientFault(thrown: unknown): thrown is FastifyError {
  if (!(thrown instanceof Error)) return false;
  const { statusCode } = thrown as Partial<FastifyError>;
  return statusCode !== undefined && statusCode >= 400 && statusCode < 500;
}

// Every 429 and 503 says when to come back, also where the flow could not know.
function withRetryAfter(error: AppError): AppError {
  if (error.code !== 'temporarily_unavailable' || error.retryAfterSeconds !== undefined) return error;
  return new AppError(error.code, { retryAfterSeconds, cause: error.cause });
}

function fromFastify(error: FastifyError, request: FastifyRequest): AppError {
  if (error.validation !== undefined) return fromValidation(error, request);
  if (error.statusCode === 413) return new AppError('content_too_large', { cause: error });
  if (error.statusCode === 415) return new AppError('unsupported_media_type', { cause: error });
  if (error.statusCode === 404) return new AppError('not_found', { cause: error });
  return new AppError('malformed_request', { cause: error });
}

function fromValidation(error: FastifyError, request: FastifyRequest): AppError {
  const isBody = error.validationContext === 'body';
  if (isBody && (request.body === undefined || request.body === null)) {
    // No body at all and no content type: the caller forgot both, and the type is what to name.
    const hasType = request.headers['content-type'] !== undefined;
    return new AppError(hasType ? 'malformed_json' : 'unsupported_media_type');
  }
  const errors = (error.validation ?? []).map((fault): FieldError => {
    const { pointer, message } = describeFault(fault);
    // A parameter has a name, a place in the body a pointer.
    return { path: isBody ? pointer : pointer.slice(1), message };
  });
  return new AppError('validation_failed', { errors });
}

function describeFault(fault: FastifySchemaValidationError): { pointer: string; message: string } {
  const { instancePath, keyword, params, message } = fault;
  switch (keyword) {
    case 'required':
      return { pointer: `${instancePath}/${String(params.missingProperty)}`, message: 'is required' };
    case 'additionalProperties': {
      const name = escapePointer(String(params.additionalProperty));
      return { pointer: `${instancePath}/${name}`, message: 'is not a known field' };
    }
    case 'minProperties':
      return { pointer: instancePath, message: `must have at least ${String(params.limit)} field(s)` };
    case 'maxProperties':
      return { pointer: instancePath, message: `must have at most ${String(params.limit)} field(s)` };
    case 'enum':
      return { pointer: instancePath, message: `must be one of ${(params.allowedValues as string[]).join(', ')}` };
    default:
      return { pointer: instancePath, message: message ?? 'is not valid' };
  }
}
