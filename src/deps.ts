import type { Logger } from 'pino';
import type { Clock } from './clock.ts';
import { systemClock } from './clock.ts';
import { type Config, smtpServer } from './config.ts';
import { type AccessTokens, createAccessTokens } from './crypto/access-token.ts';
import { createPasswordHasher, type PasswordHasher } from './crypto/passwords.ts';
import { createKeyring, type Keyring } from './crypto/secrets.ts';
import { type Database, openDatabase, type TablePolicy } from './db/database.ts';
import { describeTransportRisk } from './db/postgres-url.ts';
import type { Db } from './db/schema.ts';
import { waitForDatabase } from './db/start-wait.ts';
import { createMemoryStore } from './ephemeral/memory.ts';
import type { RedisConnection } from './ephemeral/redis-connection.ts';
import { sealEntries } from './ephemeral/sealed-entries.ts';
import { createSessionCache, type SessionCache } from './ephemeral/session-cache.ts';
import { createThrottle } from './ephemeral/shared-throttle.ts';
import type { EphemeralStore } from './ephemeral/store.ts';
import type { Throttle } from './ephemeral/throttle.ts';
import { checkSecretFingerprint, loadSigningKeys, rememberSecrets } from './keys/flow.ts';
import type { LoadedSigningKeys } from './keys/loaded-keys.ts';
import type { DeliveryEvent } from './mail/attempts.ts';
import { createDeliveryLog } from './mail/delivery-log.ts';
import { createMailbox, type Mailbox } from './mail/mailbox.ts';
import { createOutbox, type Outbox } from './mail/outbox.ts';
import { createMetrics, createProcessMetrics, type Metrics } from './metrics/metrics.ts';
import { createScrape } from './metrics/scrape.ts';
import { explainDatabaseFault } from './start-error.ts';
import { version } from './version.ts';

/** Everything that flows and routes are given. Plain values, made once by createDeps. */
export type Deps = {
  config: Config;
  clock: Clock;
  log: Logger;
  database: Database;
  /** The same as `database.db`: what stores take. */
  db: Db;
  ephemeral: EphemeralStore;
  /** Slows down guessing; undefined where RATE_LIMITS is off. */
  throttle: Throttle | undefined;
  /** Undefined when short-lived state is kept in this process. */
  redis: RedisConnection | undefined;
  /** Undefined without Redis, and where the database is quicker than Redis could be. */
  sessionCache: SessionCache | undefined;
  /** Begins every key in Redis. */
  redisPrefix: string;
  keyring: Keyring;
  signingKeys: LoadedSigningKeys;
  accessTokens: AccessTokens;
  passwords: PasswordHasher;
  outbox: Outbox;
  metrics: Metrics;
  /** Looks at the components and writes every metric down. Never rejects and never hangs. */
  scrape: () => Promise<string>;
  /** Undefined where mail goes out over SMTP. */
  mailbox: Mailbox | undefined;
  /** True from the signal to stop on: readiness is refused while what is under way finishes. */
  isStopping(): boolean;
  beginStopping(): void;
  close(): Promise<void>;
};

type DepsOptions = {
  log: Logger;
  clock?: Clock;
  /** Prefix of every key in Redis, so that several services can share one. */
  redisPrefix?: string;
  /** Whether the metrics tell of the whole process too: for the one that serves, not for each of many in a test. */
  watchesProcess?: boolean;
  /** What is done about tables that are missing or behind. A start brings them up to date. */
  tables?: TablePolicy;
};

/** The one composition root: opens everything that the configuration names. */
export async function createDeps(config: Config, options: DepsOptions): Promise<Deps> {
  const { environment } = config;
  const { log, clock = systemClock, redisPrefix = 'latchkey:', watchesProcess = false, tables = 'migrate' } = options;
  const keyring = createKeyring(config.secretKeys);
  // Closes in reverse order what was opened so far, also when the start fails halfway.
  const opened = new AsyncDisposableStack();
  try {
    const database = await openConfiguredDatabase(config, log, tables);
    opened.defer(() => database.close());
    const { db } = database;
    await checkSecretFingerprint(db, keyring);
    const signingKeys = await loadSigningKeys(db, keyring, clock.now, (error) => {
      log.warn({ err: error }, 'the signing keys could not be read again; those in memory go on working');
    });
    await rememberSecrets(db, keyring, clock.now());
    const redis = await openRedis(environment.REDIS_URL, log);
    const ephemeral =
      redis === undefined ? createMemoryStore() : await openRedisStore(redis, redisPrefix, keyring, log);
    opened.defer(() => ephemeral.close());
    const metrics = createServiceMetrics(config, database.dialect);
    const passwords = createHasher(config, keyring, metrics);
    opened.defer(() => passwords.close());
    const { outbox, mailbox } = await createMail(config, { db, clock, keyring, log, metrics });
    opened.defer(() => outbox.close());
    const processMetrics = watchesProcess ? createProcessMetrics() : undefined;
    const sources = { database, ephemeral, outbox, passwords, clock };
    let isStopping = false;
    return {
      config,
      clock,
      log,
      database,
      db,
      ephemeral,
      throttle: config.rateLimits !== undefined ? createThrottle(redis, redisPrefix) : undefined,
      redis,
      // SQLite is in this process: no question to another one could be quicker.
      sessionCache:
        redis !== undefined && database.dialect === 'postgres' && environment.SESSION_CACHE === 'on'
          ? createSessionCache(redis, redisPrefix)
          : undefined,
      redisPrefix,
      keyring,
      signingKeys,
      accessTokens: createAccessTokens({
        issuer: environment.PUBLIC_URL,
        audience: environment.ACCESS_TOKEN_AUDIENCE,
        ttlSeconds: environment.ACCESS_TOKEN_TTL_SECONDS,
        now: clock.now,
        keys: signingKeys,
      }),
      passwords,
      outbox,
      metrics,
      scrape: createScrape({ metrics, processMetrics, ...sources }),
      mailbox,
      isStopping: () => isStopping,
      beginStopping: () => {
        isStopping = true;
      },
      close: () => opened.disposeAsync(),
    };
  } catch (error) {
    // What stopped the start is what to report, whatever else then fails.
    await opened.disposeAsync().catch(() => {});
    throw error;
  }
}

// What follows loads the libraries of Redis and SMTP, as db/database.ts does that of PostgreSQL, only where the
// configuration names such a server: they are a third of the files of a start, and of its memory.

async function openRedis(url: string | undefined, log: Logger): Promise<RedisConnection | undefined> {
  if (url === undefined) return undefined;
  const { connectRedis } = await import('./ephemeral/redis-connection.ts');
  return connectRedis(
    url,
    (error) =>
      log.warn(
        { err: error },
        'Redis, or a part of it, is not reachable; the codes that need it are refused until it is',
      ),
    (warning) => log.warn(warning),
  );
}

async function openRedisStore(
  redis: RedisConnection,
  prefix: string,
  keyring: Keyring,
  log: Logger,
): Promise<EphemeralStore> {
  const { createRedisStore } = await import('./ephemeral/redis.ts');
  return sealEntries(createRedisStore(redis, prefix), keyring, (error) => {
    log.warn({ err: error }, 'an entry in Redis was not made by this service, and is ignored');
  });
}

async function openConfiguredDatabase(
  { environment, isProduction }: Config,
  log: Logger,
  tables: TablePolicy,
): Promise<Database> {
  const { DATABASE_URL, DATABASE_POOL_MAX, DATABASE_START_WAIT_SECONDS } = environment;
  const risk = isProduction ? describeTransportRisk(DATABASE_URL) : undefined;
  if (risk !== undefined) log.warn(risk);
  const open = () =>
    openDatabase(DATABASE_URL, (error) => log.warn({ err: error }, 'an idle database connection was lost'), {
      tables,
      maxConnections: DATABASE_POOL_MAX,
      onMigrationWait: () => log.info('another instance is bringing the tables up to date; waiting for it'),
    });
  return waitForDatabase(open, {
    limitSeconds: DATABASE_START_WAIT_SECONDS,
    onWait: (error, secondsLeft) =>
      log.warn(
        `${explainDatabaseFault(error) ?? 'the database is away.'} Waiting for it, ${secondsLeft} more seconds at most.`,
      ),
  });
}

function createServiceMetrics({ environment }: Config, database: 'sqlite' | 'postgres'): Metrics {
  return createMetrics({
    version,
    database,
    ephemeral: environment.REDIS_URL === undefined ? 'memory' : 'redis',
    hashCapacity: environment.HASH_QUEUE_MAX,
    poolCapacity: database === 'postgres' ? environment.DATABASE_POOL_MAX : undefined,
  });
}

function createHasher({ environment }: Config, keyring: Keyring, metrics: Metrics): PasswordHasher {
  return createPasswordHasher({
    keyring,
    scheme:
      environment.PASSWORD_HASH === 'bcrypt' ? { name: 'bcrypt', cost: environment.BCRYPT_COST } : { name: 'argon2id' },
    threads: environment.HASH_THREADS,
    maxWaiting: environment.HASH_QUEUE_MAX,
    observer: { onDone: metrics.countHash, onRefused: metrics.countHashRefused },
  });
}

type MailParts = { db: Db; clock: Clock; keyring: Keyring; log: Logger; metrics: Metrics };

async function createMail(config: Config, { db, clock, keyring, log, metrics }: MailParts) {
  const { environment, isDevelopment } = config;
  const style = { serviceUrl: environment.PUBLIC_URL, subjectTemplate: environment.MAIL_SUBJECT };
  const logDelivery = createDeliveryLog(log);
  const report = (event: DeliveryEvent) => {
    logDelivery(event);
    countDelivery(metrics, event);
  };
  const onDelivered = () => metrics.countDelivery('delivered');
  const parts = { db, clock, keyring, style, report, onDelivered };
  const server = smtpServer(config);
  if (server !== undefined) {
    const { createSmtpTransport } = await import('./mail/smtp.ts');
    const transport = createSmtpTransport(server, environment.MAIL_FROM);
    return { outbox: createOutbox({ ...parts, transport }), mailbox: undefined };
  }
  const mailbox = createMailbox(clock.now, ({ to, subject, text }) => {
    // The code in the log is the point of the development mailbox; no other mode has one.
    if (isDevelopment) log.info({ to, subject }, `mail for ${to}: ${subject}\n${text}`);
  });
  return { outbox: createOutbox({ ...parts, transport: mailbox }), mailbox };
}

function countDelivery(metrics: Metrics, { type }: DeliveryEvent): void {
  // What else is reported is about the server, and no mail.
  if (type === 'postponed' || type === 'given_up' || type === 'expired') metrics.countDelivery(type);
}
