import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { type Dialect, Kysely } from 'kysely';
import { isRetryable } from './failures.ts';
import { type DialectName, migrateToLatest } from './migrate.ts';
import { createPostgresDialect } from './postgres-dialect.ts';
import type { Db, Schema } from './schema.ts';
import { createSqliteDialect } from './sqlite-dialect.ts';

export type { Db } from './schema.ts';

/** The open database with what the process needs of it. */
export type Database = {
  db: Db;
  dialect: DialectName;
  /** Answers when the database does; rejects when it does not. */
  ping(): Promise<void>;
  close(): Promise<void>;
};

const sqlitePrefix = 'sqlite:';

/**
 * Opens the database named by DATABASE_URL (`sqlite:<path>` or `postgres://…`) and brings its tables up to
 * date. Several PostgreSQL instances may start at once: the migrator takes an advisory lock. A connection
 * that is lost later is reported and replaced.
 */
export async function openDatabase(url: string, onConnectionError: (error: Error) => void): Promise<Database> {
  const isSqlite = url.startsWith(sqlitePrefix);
  const dialect = isSqlite ? openSqlite(url.slice(sqlitePrefix.length)) : createPostgresDialect(url, onConnectionError);
  const db = new Kysely<Schema>({ dialect });
  const database: Database = {
    db,
    dialect: isSqlite ? 'sqlite' : 'postgres',
    // Reads a row: SQLite answers `select 1` without a look at its file.
    ping: async () => {
      await db.selectFrom('roles').select('name').limit(1).executeTakeFirst();
    },
    close: () => db.destroy(),
  };
  try {
    await migrateToLatest(db, database.dialect);
  } catch (error) {
    await db.destroy();
    throw error;
  }
  return database;
}

function openSqlite(path: string): Dialect {
  // The folder also holds the development secret, so nobody else may look into it.
  if (path !== ':memory:') mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  return createSqliteDialect(path);
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
