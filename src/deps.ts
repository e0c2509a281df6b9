import type { Logger } from 'pino';
import type { Clock } from './clock.ts';
import { systemClock } from './clock.ts';
import type { Config } from './config.ts';
import { type AccessTokens, createAccessTokens } from './crypto/access-token.ts';
import { createPasswordHasher, type PasswordHasher } from './crypto/passwords.ts';
import { createKeyring, type Keyring } from './crypto/secrets.ts';
import { type Database, openDatabase } from './db/database.ts';
import type { Db } from './db/schema.ts';
import { createMemoryStore } from './ephemeral/memory.ts';
import { connectRedis, createRedisStore, type RedisConnection } from './ephemeral/redis.ts';
import type { EphemeralStore } from './ephemeral/store.ts';
import { checkSecretFingerprint, type LoadedSigningKeys, loadSigningKeys, rememberSecrets } from './keys/flow.ts';
import { createMailbox, type Mailbox } from './mail/mailbox.ts';
import { createOutbox, type Outbox } from './mail/outbox.ts';
import { createSmtpTransport } from './mail/smtp.ts';

/** Everything that flows and routes are given. Plain values, made once by createDeps. */
export type Deps = {
  config: Config;
  clock: Clock;
  log: Logger;
  database: Database;
  /** The same as `database.db`: what stores take. */
  db: Db;
  ephemeral: EphemeralStore;
  /** Undefined when short-lived state is kept in this process. */
  redis: RedisConnection | undefined;
  /** Begins every key in Redis. */
  redisPrefix: string;
  keyring: Keyring;
  signingKeys: LoadedSigningKeys;
  accessTokens: AccessTokens;
  passwords: PasswordHasher;
  outbox: Outbox;
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
};

/** The one composition root: opens everything that the configuration names. */
export async function createDeps(config: Config, options: DepsOptions): Promise<Deps> {
  const { environment } = config;
  const { log, clock = systemClock, redisPrefix = 'latchkey:' } = options;
  const keyring = createKeyring(config.secretKeys);
  // Closes in reverse order what was opened so far, also when the start fails halfway.
  const opened = new AsyncDisposableStack();
  try {
    const database = await openDatabase(environment.DATABASE_URL, (error) => {
      log.warn({ err: error }, 'an idle database connection was lost');
    });
    opened.defer(() => database.close());
    const { db } = database;
    await checkSecretFingerprint(db, keyring);
    const signingKeys = await loadSigningKeys(db, keyring, clock.now());
    await rememberSecrets(db, keyring, clock.now());
    const redis = openRedis(environment.REDIS_URL, (error) => {
      // Leaving cuts a connection that is still being made, which is nobody's trouble.
      if (!opened.disposed) log.warn({ err: error }, 'Redis is not reachable; codes are refused until it is');
    });
    const ephemeral = redis === undefined ? createMemoryStore() : createRedisStore(redis, redisPrefix);
    opened.defer(() => ephemeral.close());
    const passwords = createHasher(config, keyring);
    opened.defer(() => passwords.close());
    const { outbox, mailbox } = createMail(config, { db, clock, keyring, log });
    opened.defer(() => outbox.close());
    let isStopping = false;
    return {
      config,
      clock,
      log,
      database,
      db,
      ephemeral,
      redis,
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

function openRedis(url: string | undefined, onError: (error: Error) => void): RedisConnection | undefined {
  return url === undefined ? undefined : connectRedis(url, onError);
}

function createHasher({ environment }: Config, keyring: Keyring): PasswordHasher {
  return createPasswordHasher({
    keyring,
    scheme:
      environment.PASSWORD_HASH === 'bcrypt' ? { name: 'bcrypt', cost: environment.BCRYPT_COST } : { name: 'argon2id' },
    threads: environment.HASH_THREADS,
    maxWaiting: environment.HASH_QUEUE_MAX,
  });
}

type MailParts = { db: Db; clock: Clock; keyring: Keyring; log: Logger };

function createMail({ environment, isDevelopment }: Config, { db, clock, keyring, log }: MailParts) {
  const mailbox =
    environment.SMTP_URL === undefined
      ? createMailbox(clock.now, ({ to, subject, text }) => {
          // The code in the log is the point of the development mailbox; no other mode has one.
          if (isDevelopment) log.info({ to, subject }, `mail for ${to}: ${subject}\n${text}`);
        })
      : undefined;
  const transport = mailbox ?? createSmtpTransport(environment.SMTP_URL ?? '', environment.MAIL_FROM);
  const outbox = createOutbox({
    db,
    clock,
    keyring,
    transport,
    style: { serviceUrl: environment.PUBLIC_URL, subjectTemplate: environment.MAIL_SUBJECT },
    onFailure: ({ id, attempts, error }) =>
      log.warn({ err: error, mail_id: id, attempts }, 'a mail could not be delivered and will be tried again'),
  });
  return { outbox, mailbox };
}
