import { existsSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { sql } from 'kysely';
import pg from 'pg';
import { readConnectionConfig } from './postgres-dialect.ts';
import type { Db } from './schema.ts';

// What an operator should know of a database, read without changing anything of it: no file, no table, no setting.

const sqlitePrefix = 'sqlite:';
const busyWaitMs = 2_000;
const postgresWaitMs = 5_000;

/** What a SQLite file says of itself; undefined where there is none yet. */
export type SqliteFacts = { path: string; version: string; journalMode: string } | undefined;

/** What a PostgreSQL server says of itself and of our connection to it. */
export type PostgresFacts = {
  version: string;
  majorVersion: number;
  encoding: string;
  isEncrypted: boolean;
  takesWrites: boolean;
  isSuperuser: boolean;
  maxConnections: number;
  /** By all its clients together, ourselves included. */
  usedConnections: number;
  /** Of our user; undefined where it has none. */
  connectionLimitOfUser: number | undefined;
  /** How far its clock is ahead of ours, and how far off that can be. */
  clockAheadMs: number;
  clockErrorMs: number;
};

/** Looks at the SQLite file of a DATABASE_URL. */
export function inspectSqlite(url: string): SqliteFacts {
  const path = url.slice(sqlitePrefix.length);
  if (!existsSync(path)) return undefined;
  const database = new DatabaseSync(path, { readOnly: true, timeout: busyWaitMs });
  try {
    const { version } = database.prepare('select sqlite_version() as version').get() ?? {};
    const { journal_mode } = database.prepare('pragma journal_mode').get() ?? {};
    return { path, version: String(version), journalMode: String(journal_mode) };
  } finally {
    database.close();
  }
}

const postgresQuery = `
  select current_setting('server_version') as version,
    current_setting('server_version_num')::int / 10000 as "majorVersion",
    current_setting('server_encoding') as encoding,
    coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false) as "isEncrypted",
    current_setting('transaction_read_only') = 'off' as "takesWrites",
    (select rolsuper from pg_roles where rolname = current_user) as "isSuperuser",
    current_setting('max_connections')::int as "maxConnections",
    (select count(*)::int from pg_stat_activity where backend_type = 'client backend') as "usedConnections",
    (select nullif(rolconnlimit, -1) from pg_roles where rolname = current_user) as "connectionLimitOfUser"`;

/** Asks the PostgreSQL of a DATABASE_URL about itself. */
export async function inspectPostgres(url: string): Promise<PostgresFacts> {
  const client = new pg.Client({
    ...readConnectionConfig(url),
    connectionTimeoutMillis: postgresWaitMs,
    query_timeout: postgresWaitMs,
    application_name: 'latchkey doctor',
  });
  // Whoever waits for an answer gets the error as well; without a listener it would end the process.
  client.on('error', () => {});
  try {
    await client.connect();
    const { rows } = await client.query<Omit<PostgresFacts, 'clockAheadMs' | 'clockErrorMs'>>(postgresQuery);
    const [facts] = rows;
    if (facts === undefined) throw new Error('PostgreSQL answered nothing');
    const clock = await compareClocks(async () => {
      const answer = await client.query<{ now: number }>('select extract(epoch from clock_timestamp())::float8 as now');
      return (answer.rows[0]?.now ?? 0) * 1000;
    });
    return { ...facts, connectionLimitOfUser: facts.connectionLimitOfUser ?? undefined, ...clock };
  } finally {
    await client.end().catch(() => {});
  }
}

/** Asks for a clock's time; it was read at some moment between question and answer. */
async function compareClocks(readMs: () => Promise<number>) {
  const beforeMs = Date.now();
  const theirsMs = await readMs();
  const afterMs = Date.now();
  return { clockAheadMs: theirsMs - (beforeMs + afterMs) / 2, clockErrorMs: (afterMs - beforeMs) / 2 };
}

/** A value of SECRET_KEY that this database has worked with, and whether passwords are still hashed under it. */
export type SecretUse = { fingerprint: string; firstSeenAtMs: number; hasPasswords: boolean };

/** Lists the secrets that the database knows. Reads every user where none depends on one, so it is for no request. */
export async function listSecretUses(db: Db): Promise<SecretUse[]> {
  const rows = await db.selectFrom('secret_fingerprints').selectAll().orderBy('first_seen_at').execute();
  const uses: SecretUse[] = [];
  for (const { fingerprint, first_seen_at } of rows) {
    const user = await db
      .selectFrom('users')
      .select('id')
      .where('password_hash', 'like', `lk1:${fingerprint}:%`)
      .limit(1)
      .executeTakeFirst();
    uses.push({ fingerprint, firstSeenAtMs: Number(first_seen_at), hasPasswords: user !== undefined });
  }
  return uses;
}

/** The mail that waits: how much of it, and since when the oldest should have been delivered. */
export type OutboxBacklog = { waiting: number; oldestCreatedAtMs: number | undefined };

/** Counts the mail that waits. */
export async function countOutbox(db: Db): Promise<OutboxBacklog> {
  const { waiting, oldest } = await db
    .selectFrom('outbox')
    .select([sql<number>`count(*)`.as('waiting'), sql<number | null>`min(created_at)`.as('oldest')])
    .executeTakeFirstOrThrow();
  return { waiting: Number(waiting), oldestCreatedAtMs: oldest === null ? undefined : Number(oldest) };
}
