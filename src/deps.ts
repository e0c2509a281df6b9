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
import { checkSecretFingerprint, type LoadedSigningKeys, loadSigningKeys } from './keys/flow.ts';
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
  keyring: Keyring;
  signingKeys: LoadedSigningKeys;
  accessTokens: AccessTokens;
  passwords: PasswordHasher;
  outbox: Outbox;
  /** Undefined where mail goes out over SMTP. */
  mailbox: Mailbox | undefined;
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
  const database = await openDatabase(environment.DATABASE_URL, (error) => {
    log.warn({ err: error }, 'an idle database connection was lost');
  });
  const { db } = database;
  try {
    await checkSecretFingerprint(db, keyring, clock.now());
    const signingKeys = await loadSigningKeys(db, keyring, clock.now());
    const redis = openRedis(environment.REDIS_URL, log);
    const ephemeral = redis === undefined ? createMemoryStore() : createRedisStore(redis, redisPrefix);
    const passwords = createHasher(config, keyring);
    const { outbox, mailbox } = createMail(config, { db, clock, keyring, log });
    return {
      config,
      clock,
      log,
      database,
      db,
      ephemeral,
      redis,
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
      async close() {
        await outbox.close();
        await passwords.close();
        await ephemeral.close();
        await database.close();
      },
    };
  } catch (error) {
    await database.close();
    throw error;
  }
}

function openRedis(url: string | undefined, log: Logger): RedisConnection | undefined {
  if (url === undefined) return undefined;
  return connectRedis(url, (error) =>
    log.warn({ err: error }, 'Redis is not reachable; codes are refused until it is'),
  );
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
    serviceUrl: environment.PUBLIC_URL,
    onFailure: ({ id, attempts, error }) =>
      log.warn({ err: error, mail_id: id, attempts }, 'a mail could not be delivered and will be tried again'),
  });
  return { outbox, mailbox };
}
