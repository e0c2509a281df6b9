import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { Kysely, PostgresDialect, sql } from 'kysely';
import pg from 'pg';
import { migrateToLatest } from './migrate.ts';
import type { Db, Schema } from './schema.ts';
import { createSqliteDialect } from './sqlite-dialect.ts';

export type { Db } from './schema.ts';

/** The open database with what the process needs of it. */
export type Database = {
  db: Db;
  dialect: 'sqlite' | 'postgres';
  /** Answers when the database does; rejects when it does not. */
  ping(): Promise<void>;
  close(): Promise<void>;
};

const sqlitePrefix = 'sqlite:';
const postgresLimits = {
  max: 10,
  connectionTimeoutMillis: 5_000,
  idleTimeoutMillis: 30_000,
  query_timeout: 10_000,
  statement_timeout: 10_000,
  idle_in_transaction_session_timeout: 15_000,
};
// PostgreSQL's type numbers for int8 and for the count it returns; both stay below 2^53 here.
const int8TypeId = 20;

/**
 * Opens the database named by DATABASE_URL (`sqlite:<path>` or `postgres://…`) and brings its tables up to
 * date. Several PostgreSQL instances may start at once: the migrator takes an advisory lock.
 */
export async function openDatabase(url: string, onIdleError: (error: Error) => void): Promise<Database> {
  const isSqlite = url.startsWith(sqlitePrefix);
  const db = isSqlite ? openSqlite(url.slice(sqlitePrefix.length)) : openPostgres(url, onIdleError);
  const database: Database = {
    db,
    dialect: isSqlite ? 'sqlite' : 'postgres',
    ping: async () => {
      await sql`select 1`.execute(db);
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

function openSqlite(path: string): Db {
  // The folder also holds the development secret, so nobody else may look into it.
  if (path !== ':memory:') mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  return new Kysely<Schema>({ dialect: createSqliteDialect(path) });
}

function openPostgres(url: string, onIdleError: (error: Error) => void): Db {
  const pool = new pg.Pool({ ...postgresLimits, connectionString: url, types: { getTypeParser } });
  // Without a listener, an idle connection that the server cuts would end the process.
  pool.on('error', onIdleError);
  return new Kysely<Schema>({ dialect: new PostgresDialect({ pool }) });
}

// Given to this pool alone rather than set for the whole process.
const getTypeParser = ((typeId: number, format?: 'text' | 'binary') =>
  typeId === int8TypeId ? Number : pg.types.getTypeParser(typeId, format as 'text')) as typeof pg.types.getTypeParser;

/** Runs `work` in one transaction: all of it happens, or none. Everything inside must use the given `tx`. */
export function inTransaction<T>(db: Db, work: (tx: Db) => Promise<T>): Promise<T> {
  return db.transaction().execute(work);
}
