import { existsSync } from 'node:fs';
import { readMigrationState } from './migrate.ts';
import { withRows } from './read-only.ts';
import type { Db } from './schema.ts';

/** There is no database of this version to read. */
export class SnapshotRefusedError extends Error {
  override readonly name = 'SnapshotRefusedError';
}

const sqlitePrefix = 'sqlite:';

/**
 * Reads one state of a database, whatever others write meanwhile, and changes nothing in it: neither rows nor tables, and
 * a missing file is not made.
 */
export async function readSnapshot<T>(url: string, work: (tx: Db) => Promise<T>): Promise<T> {
  const isSqlite = url.startsWith(sqlitePrefix);
  const path = url.slice(sqlitePrefix.length);
  if (isSqlite && !existsSync(path)) throw new SnapshotRefusedError(`there is no file ${path}.`);
  return withRows(url, (db) =>
    db
      .transaction()
      .setIsolationLevel('repeatable read')
      .setAccessMode('read only')
      .execute(async (tx) => {
        const { pending } = await readMigrationState(tx, isSqlite ? 'sqlite' : 'postgres');
        if (pending.length === 0) return work(tx);
        throw new SnapshotRefusedError(
          'it is empty, or was last used by an older version of Latchkey. Start this version once on it.',
        );
      }),
  );
}
