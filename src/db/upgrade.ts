import { existsSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { Kysely } from 'kysely';
import { openDatabase } from './database.ts';
import { type MigrationState, migrationStateOf, readMigrationState } from './migrate.ts';
import { createPostgresDialect } from './postgres-dialect.ts';
import type { Schema } from './schema.ts';
import { type StartWait, waitForDatabase } from './start-wait.ts';

const sqlitePrefix = 'sqlite:';

/** Looks which migrations a database has seen, and makes nothing: no file where there is none, and no table. */
export async function inspectMigrations(url: string): Promise<MigrationState> {
  if (url.startsWith(sqlitePrefix)) return inspectFile(url.slice(sqlitePrefix.length));
  const { dialect } = createPostgresDialect(url, {
    purpose: 'migration',
    maxConnections: 1,
    onConnectionError: () => {},
  });
  const db = new Kysely<Schema>({ dialect });
  try {
    return await readMigrationState(db, 'postgres');
  } finally {
    await db.destroy();
  }
}

function inspectFile(path: string): MigrationState {
  if (!existsSync(path)) return migrationStateOf([], 'sqlite');
  const database = new DatabaseSync(path, { readOnly: true });
  try {
    const table = database.prepare("select name from sqlite_schema where name = 'kysely_migration'").get();
    const rows = table && database.prepare('select name from kysely_migration order by name').all();
    return migrationStateOf(rows?.map(({ name }) => String(name)) ?? [], 'sqlite');
  } finally {
    database.close();
  }
}

/** Lists the migrations that are pending, waiting for a database that starts later. */
export function findPendingMigrations(url: string, wait: StartWait): Promise<string[]> {
  return waitForDatabase(async () => (await inspectMigrations(url)).pending, wait);
}

/** Brings the tables up to date and returns what was pending. `onTurn` is told when another process is at it. */
export function upgradeTables(url: string, wait: StartWait, onTurn: () => void): Promise<string[]> {
  return waitForDatabase(async () => {
    const { pending } = await inspectMigrations(url);
    const { close } = await openDatabase(url, () => {}, { maxConnections: 1, onMigrationWait: onTurn });
    await close();
    return pending;
  }, wait);
}
