import type { Static } from 'typebox';
import { Type } from './json-schema.ts';

const seconds = (options: { default: number; minimum: number; maximum: number; description: string }) =>
  Type.Integer(options);

/**
 * The environment as the service reads it: this one schema is the type, the validation and the table in
 * docs/configuration.md. `.env.example` is made from it too.
 */
export const environmentSchema = Type.Object({
  NODE_ENV: Type.Union([Type.Literal('development'), Type.Literal('production'), Type.Literal('test')], {
    default: 'development',
    description:
      'In `production` a `SECRET_KEY`, `PUBLIC_URL`, `SMTP_URL` and `MAIL_FROM` are required, and the development mailbox is absent. In `development` it is there without `SMTP_URL`, and for this machine alone: while the host of `PUBLIC_URL` is `localhost`, `127.0.0.1` or `[::1]`, and for requests whose `Host` is one of these.',
  }),
  HOST: Type.String({
    minLength: 1,
    maxLength: 255,
    description:
      'The address to listen on. Outside production anything but a loopback address lets whoever reaches the port read the development mailbox, with every code in it, and the start warns of it. Default: `localhost` in development and `0.0.0.0` in production.',
  }),
  PORT: Type.Integer({
    default: 8000,
    minimum: 0,
    maximum: 65_535,
    description: 'The TCP port; 0 takes any free one.',
  }),
  PUBLIC_URL: Type.String({
    pattern: '^https?://[^\\s/?#@]+$',
    maxLength: 255,
    description:
      'The origin under which clients reach the service, without a path or a final slash. It is the `iss` of every access token and the only link in mail. Default: `http://localhost:<PORT>` outside production.',
  }),
  DATA_DIR: Type.String({
    default: './data',
    minLength: 1,
    maxLength: 1024,
    description: 'The folder of the SQLite file and of the development secret; made with mode 0700 when it is absent.',
  }),
  DATABASE_URL: Type.String({
    pattern: '^(?:sqlite:.+|postgres(?:ql)?://.+)$',
    maxLength: 2048,
    description:
      '`sqlite:<path>` or `postgres://user:password@host:5432/database`. Default: `sqlite:<DATA_DIR>/latchkey.db`. May hold a password. TLS to PostgreSQL is said by `?sslmode=`: `verify-full` checks the certificate and the host in it, `require` does the same, `verify-ca` takes any host of the authority in `sslrootcert`, `no-verify` takes any certificate, `disable` (and nothing) goes in the clear, of which the start in production warns where the host is another machine. `sslrootcert`, `sslcert` and `sslkey` name PEM files, read again for each connection; without `sslrootcert` the authorities that Node.js knows count. Further parameters: `host` for the folder of a socket file, `application_name`, `options`, and `pgbouncer=true` for a pooler that refuses settings at the start of a connection. Any other is refused.',
  }),
  DATABASE_POOL_MAX: Type.Integer({
    default: 10,
    minimum: 1,
    maximum: 200,
    description:
      'Connections of this instance to PostgreSQL at most; a start may use one more. For each, 50 requests may wait, up to 5 seconds; one more is answered 503. All instances together must stay below `max_connections` of the server.',
  }),
  DATABASE_START_WAIT_SECONDS: seconds({
    default: 30,
    minimum: 0,
    maximum: 600,
    description:
      'For how long a start waits for a database that does not answer, starts up, has no connection left or is locked. What does not pass by itself, such as a wrong password, ends the start at once.',
  }),
  REDIS_URL: Type.Optional(
    Type.String({
      pattern: '^rediss?(?:\\+(?:sentinel|cluster))?://.+$',
      maxLength: 2048,
      description:
        'Redis 7 or Valkey for codes and limits: `redis://user:password@host:6379/<database>`. A master that sentinels watch is `redis+sentinel://user:password@host:26379,host:26379/<name of the master>/<database>?sentinel_username=…&sentinel_password=…`, and a cluster `redis+cluster://user:password@host:6379,host:6379`. User, password, ports, database and parameters may be left out. `rediss`, `rediss+sentinel` and `rediss+cluster` are the same over TLS, to the sentinels too; `NODE_EXTRA_CA_CERTS` names the file of a private CA. Absent: codes and limits are kept in this process, which is right for one instance. May hold passwords.',
    }),
  ),
  SECRET_KEY: Type.String({
    maxLength: 4096,
    description:
      'The root of every derived key: at least 32 bytes from a random generator (`openssl rand -base64 48`). A comma-separated list, newest first, rotates it: the first makes, all verify. Required in production; in development one is made and kept in `DATA_DIR`.',
  }),
  SMTP_URL: Type.Optional(
    Type.String({
      pattern: '^smtps?://.+$',
      maxLength: 2048,
      description:
        '`smtp://user:password@host:587` (STARTTLS) or `smtps://…:465` (TLS from the start). TLS is 1.2 or newer and certificates are always verified, those of a private authority with `NODE_EXTRA_CA_CERTS=<file>`. `smtp://` requires STARTTLS with a user name and password, and in production; without them it goes unencrypted to `localhost`, `127.0.0.1` and `[::1]`, and outside production uses STARTTLS where it is offered. `?tls=required`, `?tls=opportunistic` (not with a password) or `?tls=off` says otherwise. Absent in development: mail is kept at `/dev/mailbox` and written to the log.',
    }),
  ),
  MAIL_FROM: Type.String({
    pattern: '^(?:[^\\r\\n<>",]{1,100} )?<?[^\\s<>",@]+@[^\\s<>",@]+>?$',
    maxLength: 320,
    description:
      'The sender of every mail, as `name <address>` or an address alone. Default: `Latchkey <no-reply@localhost>` outside production.',
  }),
  MAIL_SUBJECT: Type.String({
    default: '{subject}',
    pattern: '^[^\\p{Cc}]*\\{subject\\}[^\\p{Cc}]*$',
    maxLength: 100,
    description:
      'The subject of every mail, with `{subject}` where the message’s own goes: `[Example] {subject}`. The name of the sender is in `MAIL_FROM`.',
  }),
  PASSWORD_HASH: Type.Union([Type.Literal('bcrypt'), Type.Literal('argon2id')], {
    default: 'bcrypt',
    description:
      'How new passwords are hashed. `argon2id` uses 19 MiB, two passes and one lane. Hashes of the other kind still verify and are replaced at the next login.',
  }),
  BCRYPT_COST: Type.Integer({
    default: 12,
    minimum: 4,
    maximum: 16,
    description: 'Base-2 logarithm of the rounds of bcrypt. At least 10 in production.',
  }),
  HASH_THREADS: Type.Integer({
    minimum: 1,
    maximum: 64,
    description: 'Threads that hash passwords. Default: the number of processors, at most 8.',
  }),
  HASH_QUEUE_MAX: Type.Integer({
    default: 100,
    minimum: 1,
    maximum: 10_000,
    description: 'Password checks that may wait for a thread; one more is answered 503 with `Retry-After`.',
  }),
  PASSWORD_MIN_LENGTH: Type.Integer({
    default: 8,
    minimum: 8,
    maximum: 64,
    description: 'Characters of a new password. 15 is what NIST SP 800-63B-4 asks of passwords used alone.',
  }),
  ACCESS_TOKEN_TTL_SECONDS: seconds({
    default: 1800,
    minimum: 60,
    maximum: 86_400,
    description: 'Life of an access token. Other services learn of a logout within this time.',
  }),
  ACCESS_TOKEN_AUDIENCE: Type.String({
    minLength: 1,
    maxLength: 255,
    description: 'The `aud` of every access token, which other services must check. Default: `PUBLIC_URL`.',
  }),
  SIGNING_KEY_MAX_AGE_SECONDS: seconds({
    default: 7_776_000,
    minimum: 86_400,
    maximum: 315_360_000,
    description:
      'A signing key of access tokens is replaced by the next one after this long. The next key is in the JWKS long before it signs, and the retired one until its last token has expired.',
  }),
  SESSION_IDLE_TTL_SECONDS: seconds({
    default: 604_800,
    minimum: 300,
    maximum: 31_536_000,
    description: 'A session ends when it has not been refreshed for this long.',
  }),
  SESSION_MAX_TTL_SECONDS: seconds({
    default: 2_592_000,
    minimum: 300,
    maximum: 31_536_000,
    description: 'A session ends this long after the login, however much it is used.',
  }),
  SESSION_CACHE: Type.Union([Type.Literal('on'), Type.Literal('off')], {
    default: 'on',
    description:
      'Whether the sessions of requests are kept in Redis for up to 10 seconds, where both PostgreSQL and Redis are configured. Every revocation empties it at once; `off` asks the database at every request.',
  }),
  SESSIONS_PER_USER_MAX: Type.Integer({
    default: 20,
    minimum: 1,
    maximum: 1000,
    description: 'Sessions of one user; a further login ends the oldest.',
  }),
  REFRESH_REUSE_GRACE_SECONDS: seconds({
    default: 30,
    minimum: 0,
    maximum: 300,
    description:
      'For how long the refresh token just replaced gets the same successor again, so that parallel tabs and lost replies log nobody out. 0 is strict.',
  }),
  CODE_TTL_SECONDS: seconds({ default: 300, minimum: 60, maximum: 900, description: 'Life of an e-mailed code.' }),
  AUDIT_RETENTION_DAYS: Type.Integer({
    default: 365,
    minimum: 0,
    maximum: 36_500,
    description:
      'After this many days audit events are removed, in whole seals from the old end of the chain. 0 keeps them for ever.',
  }),
  CORS_ORIGINS: Type.String({
    default: '',
    pattern: '^(?:https?://[^\\s,/*?#@]+(?:,https?://[^\\s,/*?#@]+)*)?$',
    maxLength: 4096,
    description: 'Comma-separated origins whose pages may call the API. Empty: none. `*` is refused.',
  }),
  TRUST_PROXY: Type.String({
    default: '',
    maxLength: 4096,
    description:
      'Comma-separated addresses or CIDR ranges of the proxies whose `X-Forwarded-For` is believed. Empty: none, and the header is ignored.',
  }),
  RATE_LIMITS: Type.String({
    default: 'on',
    maxLength: 4096,
    description:
      'Limits of requests by client address, by account and by both together: `on`, or what differs from the defaults, such as `login=20/m/ip,5/m/pair;refresh=60/m/ip` (see below). `off` is for benchmarks and refused in production; it ends the growing waits after wrong passwords too, while a hundred of them in a row are counted all the same.',
  }),
  DOCS: Type.Union([Type.Literal('on'), Type.Literal('off')], {
    default: 'on',
    description: 'Whether `/docs` and `/openapi.json` are served.',
  }),
  METRICS_PORT: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: 65_535,
      description:
        'A TCP port of its own for `GET /metrics` in Prometheus’ text format; 0 takes any free one. Absent: no such port.',
    }),
  ),
  METRICS_HOST: Type.String({
    default: 'localhost',
    minLength: 1,
    maxLength: 255,
    description:
      'The address to listen on at `METRICS_PORT`. Whoever reaches another than loopback can read the metrics, unless `METRICS_TOKEN` is set; the start in production warns of that.',
  }),
  METRICS_TOKEN: Type.Optional(
    Type.String({
      pattern: '^[A-Za-z0-9._~+/-]+=*$',
      minLength: 16,
      maxLength: 512,
      description:
        'The bearer token for `GET /metrics`, at `METRICS_PORT` and on the listener of the API. Absent: the API has no `/metrics`. At least 32 characters in production (`openssl rand -base64 48`).',
    }),
  ),
  LOG_LEVEL: Type.Union(
    ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'].map((level) => Type.Literal(level)),
    { default: 'info', description: 'The least important level that is logged.' },
  ),
});

export type Environment = Static<typeof environmentSchema>;

/** Variables whose value may come from a file named by `<NAME>_FILE`, as container secrets do. */
export const fileVariables = ['SECRET_KEY', 'DATABASE_URL', 'REDIS_URL', 'SMTP_URL', 'METRICS_TOKEN'] as const;
