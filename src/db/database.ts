import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { Kysely, sql } from 'kysely';
import { isRetryable } from './failures.ts';
import { type DialectName, migrateToLatest, PendingMigrationsError, readMigrationState } from './migrate.ts';
import type { PoolState, PostgresOptions } from './postgres-dialect.ts';
import type { Db, Schema } from './schema.ts';
import { createSqliteDialect } from './sqlite-dialect.ts';

export type { Db } from './schema.ts';

/** The open database with what the process needs of it. */
export type Database = {
  db: Db;
  dialect: DialectName;
  /** Answers when the database does and takes writes, as far as it says; rejects when it does not. */
  ping(): Promise<void>;
  /** The connections of requests; undefined on SQLite, which has no pool of them. */
  poolState(): PoolState | undefined;
  close(): Promise<void>;
};

/**
 * What is done about tables that are missing or behind: a start brings them up to date; a command makes the first ones
 * at most, since an older version may be running on those that are there.
 */
export type TablePolicy = 'migrate' | 'create' | 'require';

type OpenOptions = {
  tables?: TablePolicy;
  /** Connections to PostgreSQL at most. */
  maxConnections?: number;
  /** Told when another instance is changing the tables and this one waits for it. */
  onMigrationWait?: () => void;
};

const sqlitePrefix = 'sqlite:';
const defaultMaxConnections = 10;

/**
 * Opens the database named by DATABASE_URL (`sqlite:<path>` or `postgres://…`) and brings its tables up to
 * date, unless told otherwise. Several instances may start at once. A connection that is lost later is reported and replaced.
 */
export async function openDatabase(
  url: string,
  onConnectionError: (error: Error) => void,
  { tables = 'migrate', maxConnections = defaultMaxConnections, onMigrationWait = () => {} }: OpenOptions = {},
): Promise<Database> {
  const dialect = url.startsWith(sqlitePrefix) ? 'sqlite' : 'postgres';
  const connect = async (limits: Pick<PostgresOptions, 'purpose' | 'maxConnections'>) => {
    // Loaded only here: an installation on SQLite need not carry the driver.
    const { createPostgresDialect } = await import('./postgres-dialect.ts');
    const { dialect: ours, poolState } = createPostgresDialect(url, { ...limits, onConnectionError });
    return { db: new Kysely<Schema>({ dialect: ours }), poolState };
  };
  const { db, poolState } =
    dialect === 'sqlite'
      ? { db: openSqlite(url), poolState: () => undefined }
      : await connect({ purpose: 'requests', maxConnections });
  const close = () => db.destroy();
  try {
    const { applied, pending } = await readMigrationState(db, dialect);
    if (pending.length > 0) {
      const mayMigrate = tables === 'migrate' || (tables === 'create' && applied.length === 0);
      if (!mayMigrate) throw new PendingMigrationsError(pending);
      // Not on a connection of requests, whose limits in time a migration need not keep.
      const place = dialect === 'sqlite' ? undefined : (await connect({ purpose: 'migration', maxConnections: 1 })).db;
      await migrateToLatest(place ?? db, dialect, onMigrationWait).finally(() => place?.destroy());
    }
  } catch (error) {
    await close();
    throw error;
  }
  return {
    db,
    dialect,
    ping: () => ping(db, dialect),
    poolState,
    close,
  };
}

async function ping(db: Db, dialect: DialectName): Promise<void> {
  // Reads a row: SQLite answers `select 1` without a look at its file.
  await db.selectFrom('roles').select('name').limit(1).executeTakeFirst();
  if (dialect === 'sqlite') return;
  // A standby, or a server that its operator has locked for writing, answers reads and can serve no login.
  const { rows } = await sql<{ setting: string }>`select current_setting('transaction_read_only') as setting`.execute(
    db,
  );
  if (rows[0]?.setting === 'on') throw new Error('PostgreSQL takes no writes');
}

function openSqlite(url: string): Db {
  const path = url.slice(sqlitePrefix.length);
  // The folder also holds the development secret, so nobody else may look into it.
  if (path !== ':memory:') mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  return new Kysely<Schema>({ dialect: createSqliteDialect(path) });
}

// A deadlock has one victim, which succeeds when it tries again; three in a row are a fault to be seen.
const maxAttempts = 3;

/**
 * Runs `work` in one transaction: all of it happens, or none. Everything inside must use the given `tx`. It is run
 * again when PostgreSQL chose it as the victim of a deadlock, so what it does elsewhere must bear repetition.
 */
export async function inTransaction<T>(db: Db, work: (tx: Db) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await db.transaction().execute(work);
    } catch (error) {
      if (attempt === maxAttempts || !isRetryable(error)) throw error;
    }
  }
}
