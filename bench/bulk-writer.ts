import { DatabaseSync } from 'node:sqlite';
import type { Insertable } from 'kysely';
import pg from 'pg';
import { type CopyTable, copiedTables } from '../src/db/copy-tables.ts';
import { openCopyTarget } from '../src/db/copy-target.ts';
import type { Schema } from '../src/db/schema.ts';

type TableName = keyof Schema & string;
type Row<T extends TableName> = Readonly<Insertable<Schema[T]>>;

/** Writes very many rows into a database that has its tables, and that nobody uses meanwhile. */
export type BulkWriter = {
  write<T extends TableName>(table: T, rows: readonly Row<T>[]): Promise<void>;
  /** Commits, and leaves the database as its own housekeeping would a little later. */
  finish(): Promise<void>;
  /** What was not finished is of no use then: PostgreSQL takes it back, and a SQLite file is to be removed. */
  close(): Promise<void>;
};

/** Opens a writer on a SQLite file or a PostgreSQL database. */
export function openBulkWriter(databaseUrl: string): Promise<BulkWriter> | BulkWriter {
  return databaseUrl.startsWith('sqlite:')
    ? openSqliteWriter(databaseUrl.slice('sqlite:'.length))
    : openPostgresWriter(databaseUrl);
}

// A million rows touch pages all over the indexes, and with SQLite's 2 MB each of them would be read from the file
// again.
const sqliteCacheKibibytes = 512 * 1024;
// A log that holds everything is slow to look things up in, and as large as the file.
const sqliteRowsPerCommit = 100_000;

function openSqliteWriter(path: string): BulkWriter {
  const database = new DatabaseSync(path, { enableForeignKeyConstraints: true });
  database.exec(`pragma cache_size = -${sqliteCacheKibibytes}`);
  // What is lost with the power now is written again by the same command.
  database.exec('pragma synchronous = normal');
  database.exec('begin immediate');
  let uncommitted = 0;
  const prepared = new Map<string, { columns: readonly string[]; insert(...cells: unknown[]): void }>();

  function prepare(table: string) {
    const columns = database.prepare(`select name from pragma_table_info('${table}')`).all();
    const names = columns.map(({ name }) => String(name));
    const statement = database.prepare(`insert into ${table} (${names}) values (${names.map(() => '?')})`);
    const insert = (...cells: (string | number | null)[]) => void statement.run(...cells);
    const entry = { columns: names, insert: insert as (...cells: unknown[]) => void };
    prepared.set(table, entry);
    return entry;
  }

  return {
    async write(table, rows) {
      const { columns, insert } = prepared.get(table) ?? prepare(table);
      for (const row of rows) insert(...cellsOf(row, columns));
      uncommitted += rows.length;
      if (uncommitted < sqliteRowsPerCommit) return;
      database.exec('commit; begin immediate');
      uncommitted = 0;
    },
    async finish() {
      database.exec('commit');
      database.exec('pragma wal_checkpoint(truncate)');
    },
    async close() {
      database.close();
    },
  };
}

async function openPostgresWriter(databaseUrl: string): Promise<BulkWriter> {
  const target = await openCopyTarget(databaseUrl);
  const tables = new Map<string, CopyTable>();

  async function describe(name: string): Promise<CopyTable> {
    const table = { name, key: [], columns: await target.listColumns(name) };
    tables.set(name, table);
    return table;
  }

  return {
    async write(name, rows) {
      const table = tables.get(name) ?? (await describe(name));
      const columns = table.columns.map((column) => column.name);
      const asText = (cell: unknown) => (cell === null ? null : String(cell));
      await target.insert(
        table,
        rows.map((row) => cellsOf(row, columns).map(asText)),
      );
    },
    async finish() {
      await target.commit();
      await vacuum(databaseUrl);
    },
    close: target.close,
  };
}

/** What autovacuum does by itself a minute later: statistics for the planner, and the visibility of the pages. */
async function vacuum(databaseUrl: string): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    await client.query(`vacuum (analyze) ${copiedTables.map(({ name }) => name).join(', ')}`);
    await client.query('checkpoint');
  } finally {
    await client.end();
  }
}

function cellsOf(row: object, columns: readonly string[]): unknown[] {
  const cells = row as Readonly<Record<string, unknown>>;
  return columns.map((name) => cells[name] ?? null);
}
