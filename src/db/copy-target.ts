import pg from 'pg';
import { openCopyConnection, type Send } from './copy-connection.ts';
import { CopyRefusedError } from './copy-refusal.ts';
import { type CopyColumn, type CopyRow, type CopyTable, nameRow } from './copy-tables.ts';
import { migrationLockId } from './migrate.ts';
import type { Db } from './schema.ts';

/** An empty PostgreSQL database in one transaction: what is done here is there at the commit, or not at all. */
export type CopyTarget = {
  /** The same transaction, for what is written with Kysely. */
  tx: Db;
  /** Makes a service that starts, and another copy, wait until the end of the transaction. */
  lockMigrations(): Promise<void>;
  /** Waits for those who write to the tables, and keeps them out from then on. */
  lock(tables: readonly string[]): Promise<void>;
  listMigrations(): Promise<string[]>;
  listColumns(table: string): Promise<CopyColumn[]>;
  /** Names those of the tables that hold rows. */
  listFilled(tables: readonly string[]): Promise<string[]>;
  insert(table: CopyTable, rows: readonly CopyRow[]): Promise<void>;
  analyze(tables: readonly string[]): Promise<void>;
  /** Reads the rows in the order of the primary key, by bytes. */
  readRows(table: CopyTable): AsyncIterable<CopyRow>;
  commit(): Promise<void>;
  /** Ends the connection, and takes back what was not committed. */
  close(): Promise<void>;
};

const rowsPerFetch = 500;

/** Connects to the database that a copy goes to. */
export async function openCopyTarget(url: string): Promise<CopyTarget> {
  const { send, tx, close } = await openCopyConnection(url);
  const run = async (text: string) => void (await send({ text }));
  const listFirst = async (text: string) => (await readCells(send, text)).map(([cell]) => String(cell));

  return {
    tx,
    lockMigrations: () => run(`select pg_advisory_xact_lock(${migrationLockId})`),
    lock: (tables) => run(`lock table ${tables.map(quote).join(', ')} in exclusive mode`),
    listMigrations: () => listFirst('select name from kysely_migration order by name'),
    async listColumns(table) {
      const text = `select attname, format_type(atttypid, atttypmod) from pg_attribute
        where attrelid = $1::regclass and attnum > 0 and not attisdropped order by attnum`;
      const cells = await readCells(send, text, [quote(table)]);
      return cells.map(([name, type]) => ({ name: String(name), type: String(type) }));
    },
    listFilled: (tables) =>
      listFirst(tables.map((name) => `select '${name}' where exists (select from ${quote(name)})`).join(' union all ')),
    insert: (table, rows) => insertRows(send, table, rows),
    analyze: (tables) => run(`analyze ${tables.map(quote).join(', ')}`),
    readRows: (table) => readRows(send, table),
    commit: () => tx.commit().execute(),
    close,
  };
}

/** Reads rows as PostgreSQL sends them, which is text. */
async function readCells(send: Send, text: string, values: unknown[] = []): Promise<CopyRow[]> {
  const types = { getTypeParser: () => (cell: string) => cell };
  const { rows } = await send({ text, values, rowMode: 'array', types });
  return rows;
}

/** Sends a batch as one array for each column, so that no number of rows meets the limit of 65,535 parameters. */
async function insertRows(send: Send, table: CopyTable, rows: readonly CopyRow[]): Promise<void> {
  const names = table.columns.map(({ name }) => quote(name)).join(', ');
  const arrays = table.columns.map(({ type }, index) => `$${index + 1}::${type}[]`).join(', ');
  const text = `insert into ${quote(table.name)} (${names}) select * from unnest(${arrays})`;
  const insert = (batch: readonly CopyRow[]) =>
    send({ text, values: table.columns.map((_, index) => batch.map((row) => row[index])) });

  await send({ text: 'savepoint batch' });
  try {
    await insert(rows);
    await send({ text: 'release savepoint batch' });
  } catch (error) {
    if (!isFaultOfRow(error)) throw error;
    await send({ text: 'rollback to savepoint batch' });
    await findFaultyRow(table, rows, insert);
    throw error;
  }
}

// Classes 22 (data), 23 (constraints) and 54 (limits of PostgreSQL), Appendix A of its manual.
function isFaultOfRow(error: unknown): error is pg.DatabaseError {
  return error instanceof pg.DatabaseError && /^(?:22|23|54)/.test(error.code ?? '');
}

/** Sends the rows of a refused batch one at a time, to say which it is. */
async function findFaultyRow(
  table: CopyTable,
  rows: readonly CopyRow[],
  insert: (batch: readonly CopyRow[]) => Promise<unknown>,
): Promise<void> {
  for (const row of rows) {
    try {
      await insert([row]);
    } catch (error) {
      if (!isFaultOfRow(error)) throw error;
      // Only the message: the detail shows the row itself.
      throw new CopyRefusedError(
        `PostgreSQL does not take ${nameRow(table, row)}: ${error.message} (${error.code}). ` +
          'Mend or remove it in the source and run the command again.',
        { cause: error },
      );
    }
  }
}

async function* readRows(send: Send, { name, key, columns }: CopyTable): AsyncGenerator<CopyRow> {
  const cells = columns.map((column) => quote(column.name)).join(', ');
  const typeOf = new Map(columns.map((column) => [column.name, column.type]));
  // The order of bytes is SQLite's; the database's own would put the same keys in another.
  const order = key.map((column) => `${quote(column)}${typeOf.get(column) === 'text' ? ' collate "C"' : ''}`);
  const select = `select ${cells} from ${quote(name)} order by ${order.join(', ')}`;
  await send({ text: `declare copied no scroll cursor for ${select}` });
  for (;;) {
    const rows = await readCells(send, `fetch forward ${rowsPerFetch} from copied`);
    yield* rows;
    if (rows.length < rowsPerFetch) break;
  }
  await send({ text: 'close copied' });
}

function quote(name: string): string {
  return pg.escapeIdentifier(name);
}
