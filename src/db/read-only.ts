import { Kysely } from 'kysely';
import { createPostgresDialect } from './postgres-dialect.ts';
import type { Db, Schema } from './schema.ts';
import { createSqliteDialect } from './sqlite-dialect.ts';

const sqlitePrefix = 'sqlite:';

/** Runs a look at the rows of a database, which must be there, on a connection of its own. */
export async function withRows<T>(url: string, look: (db: Db) => Promise<T>): Promise<T> {
  const dialect = url.startsWith(sqlitePrefix)
    ? createSqliteDialect(url.slice(sqlitePrefix.length), { isReadOnly: true })
    : createPostgresDialect(url, { purpose: 'requests', maxConnections: 1, onConnectionError: () => {} }).dialect;
  const db = new Kysely<Schema>({ dialect });
  try {
    return await look(db);
  } finally {
    await db.destroy();
  }
}
