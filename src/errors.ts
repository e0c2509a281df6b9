type CatalogueEntry = {
  /** The HTTP status, RFC 9110. */
  status: number;
  /** The problem document's title: the same for every occurrence. */
  title: string;
  /** What happened, for the page that `type` points at. */
  meaning: string;
  /** What the caller can do about it. */
  remedy: string;
};

/**
 * Every error that a caller can meet. The catalogue is closed: a code is never renamed or reused, and
 * docs/errors.md and the page at /docs/errors are made from it.
 */
export const errorCatalogue = {
  malformed_request: {
    status: 400,
    title: 'The request could not be read',
    meaning: 'The URL, a header or the framing of the request is not valid HTTP for this service.',
    remedy: 'Correct the request; sending it again unchanged gives the same answer.',
  },
  malformed_json: {
    status: 400,
    title: 'The body is not acceptable JSON',
    meaning:
      'The body is empty, is not JSON (RFC 8259), names a member twice, nests deeper than 16 levels, or has a member called `__proto__`, `constructor` or `prototype`.',
    remedy: 'Send one JSON object with each member once.',
  },
  invalid_code: {
    status: 400,
    title: 'The code is not valid',
    meaning:
      'The code is wrong, has expired, was used, was replaced by a newer one, was tried five times, or was never sent. The answer does not say which.',
    remedy:
      'Check the newest mail, or ask for a new code with `POST /auth/send-code` (for a new address, `POST /users/me/email`).',
  },
  invalid_verification_token: {
    status: 400,
    title: 'The verification token is not valid',
    meaning:
      'The token is unknown, used, older than ten minutes, or was made for another purpose. It works once, for the purpose of the code that it stands for.',
    remedy:
      'Prove the address again with `POST /auth/send-code` (for a new address, `POST /users/me/email`) and `POST /auth/verify-code`.',
  },
  authentication_required: {
    status: 401,
    title: 'Authentication is required',
    meaning: 'The operation needs an access token and the request carries none.',
    remedy: 'Send `Authorization: Bearer <access_token>` (RFC 6750 section 2.1).',
  },
  invalid_token: {
    status: 401,
    title: 'The access token is not valid',
    meaning:
      'The access token is malformed, expired, not signed by this service, or its session or user is no longer there.',
    remedy: 'Refresh once with `POST /auth/refresh`; when that is refused too, log in again.',
  },
  invalid_credentials: {
    status: 401,
    title: 'The credentials are not valid',
    meaning:
      'The address and password do not belong to an account that may log in. Unknown, disabled and wrong are answered alike. Where you are logged in already, the password is not the current one.',
    remedy: 'Check both, or log in with an e-mailed code.',
  },
  invalid_refresh_token: {
    status: 401,
    title: 'The refresh token is not valid',
    meaning: 'The refresh token is malformed, expired, not genuine, or its session has ended.',
    remedy: 'Log in again.',
  },
  refresh_token_reused: {
    status: 401,
    title: 'The refresh token was used before',
    meaning:
      'A refresh token that had been replaced came back after its grace. Two parties hold it, so the session has been ended for both (RFC 9700 section 4.14.2).',
    remedy: 'Log in again. If the repetition was not yours, change the password.',
  },
  insufficient_user_authentication: {
    status: 401,
    title: 'A more recent authentication is required',
    meaning:
      'The operation needs the user to have authenticated within `max_age` seconds (RFC 9470), and this session is older.',
    remedy: 'Call `POST /auth/reauthenticate`, then repeat the request with the same access token.',
  },
  insufficient_permission: {
    status: 403,
    title: 'A permission is missing',
    meaning:
      'The operation needs a permission that none of your roles holds, or it would give somebody a permission that you do not hold yourself, or change somebody who holds more than you. `detail` says which, and `scope` in `WWW-Authenticate` names a missing permission (RFC 6750 section 3.1).',
    remedy: 'Ask somebody who administers the roles. A role that you are given is effective on your next request.',
  },
  not_found: {
    status: 404,
    title: 'There is nothing here',
    meaning: 'No resource has this address, or it is not yours to see.',
    remedy: 'Check the path against `/openapi.json`.',
  },
  method_not_allowed: {
    status: 405,
    title: 'The method is not allowed here',
    meaning: 'The resource exists and does not answer this method. `Allow` names those that it does.',
    remedy: 'Use one of the methods in `Allow`.',
  },
  request_timeout: {
    status: 408,
    title: 'The request took too long to arrive',
    meaning: 'The headers or the body were not complete within the time allowed for them.',
    remedy: 'Send the request again in one go.',
  },
  account_exists: {
    status: 409,
    title: 'The address already has an account',
    meaning:
      'The address that the verification token proves has an account, made since the code was sent: only the holder of the address can see this. To somebody who administers users: another account has the address.',
    remedy: 'Log in instead; to administer the account that has the address, find it with `GET /users?email=…`.',
  },
  last_administrator: {
    status: 409,
    title: 'This is the last administrator',
    meaning:
      'The operation would leave no active account with the role `admin`, and nobody could administer the service any more.',
    remedy: 'Give the role `admin` to another active account first.',
  },
  protected_role: {
    status: 409,
    title: 'This role belongs to the service',
    meaning: 'The role `admin` can be neither changed nor deleted, and the role `user` cannot be deleted.',
    remedy: 'Make a role of your own.',
  },
  role_limit_reached: {
    status: 409,
    title: 'There is no room for this role',
    meaning:
      'There are 100 roles already, or the permissions of all roles together would no longer fit into an access token (3 KiB of JSON).',
    remedy: 'Delete roles, or choose fewer or shorter permissions.',
  },
  address_not_proved: {
    status: 409,
    title: 'The address is not proved yet',
    meaning:
      'The account is invited: its owner has not registered yet, so that it can be neither disabled nor enabled.',
    remedy: 'Wait for the registration, or delete the account to withdraw the invitation.',
  },
  content_too_large: {
    status: 413,
    title: 'The body is too large',
    meaning: 'The body is larger than 32 KiB.',
    remedy: 'Send less.',
  },
  unsupported_media_type: {
    status: 415,
    title: 'The body must be application/json',
    meaning: 'The request has a body whose content type is missing or is not `application/json`.',
    remedy: 'Send `Content-Type: application/json`.',
  },
  validation_failed: {
    status: 422,
    title: 'The request does not match its schema',
    meaning:
      'A field is missing, unknown, of the wrong type or outside its limits. `errors` names each (at most 20): a body field by JSON Pointer (RFC 6901), a parameter by its name.',
    remedy: 'Correct the fields named in `errors`.',
  },
  password_rejected: {
    status: 422,
    title: 'The password is not acceptable',
    meaning: 'The password is too short or too long, is on the list of common passwords, or is built from the address.',
    remedy: 'Choose a longer password; several unrelated words are good. There are no rules about symbols.',
  },
  request_header_fields_too_large: {
    status: 431,
    title: 'The headers are too large',
    meaning: 'The request line and headers together are larger than 16 KiB.',
    remedy: 'Send fewer or shorter headers.',
  },
  too_many_requests: {
    status: 429,
    title: 'Too many requests',
    meaning: 'A limit for this client or address is used up. `Retry-After` says how many seconds to wait.',
    remedy: 'Wait as long as `Retry-After` says.',
  },
  internal_error: {
    status: 500,
    title: 'Something went wrong here',
    meaning: 'The service met an error that it did not foresee. The log has it under `request_id`.',
    remedy: 'Report `request_id` to the operator.',
  },
  temporarily_unavailable: {
    status: 503,
    title: 'The service cannot do this right now',
    meaning:
      'A component is away or a queue is full. As a rule nothing was changed. `Retry-After` says when to try again.',
    remedy:
      'Wait as long as `Retry-After` says and send the same request again. If that is refused as used, ask for a new code.',
  },
} as const satisfies Record<string, CatalogueEntry>;

/** A stable name from the catalogue: what programs should branch on. */
export type ErrorCode = keyof typeof errorCatalogue;

/** One field that was refused. */
export type FieldError = {
  /** JSON Pointer (RFC 6901) into the body, or the name of a query or path parameter. */
  path: string;
  message: string;
};

type AppErrorOptions = {
  /** One sentence for the caller; never holds a secret or an address that the caller did not send. */
  detail?: string;
  errors?: FieldError[];
  retryAfterSeconds?: number;
  /** RFC 9470: how recent, in seconds, the authentication must be. */
  maxAgeSeconds?: number;
  /** RFC 6750 section 3: the permission that is missing. */
  scope?: string;
  /** For the log alone. */
  cause?: unknown;
};

/** The one error that flows throw: a code from the catalogue for the caller, a cause for the log. */
export class AppError extends Error {
  readonly code: ErrorCode;
  readonly detail: string | undefined;
  readonly errors: FieldError[] | undefined;
  readonly retryAfterSeconds: number | undefined;
  readonly maxAgeSeconds: number | undefined;
  readonly scope: string | undefined;

  constructor(code: ErrorCode, options: AppErrorOptions = {}) {
    super(`${code}: ${errorCatalogue[code].title}`, { cause: options.cause });
    this.name = 'AppError';
    this.code = code;
    this.detail = options.detail;
    this.errors = options.errors;
    this.retryAfterSeconds = options.retryAfterSeconds;
    this.maxAgeSeconds = options.maxAgeSeconds;
    this.scope = options.scope;
  }
}

/** Refuses one field of the request. */
export function fieldRefused(path: string, message: string): AppError {
  return new AppError('validation_failed', { errors: [{ path, message }] });
}
