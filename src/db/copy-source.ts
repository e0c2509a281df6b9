import { existsSync } from 'node:fs';
import { DatabaseSync, type SQLOutputValue } from 'node:sqlite';
import { pathToFileURL } from 'node:url';
import { CopyRefusedError } from './copy-refusal.ts';
import type { CopyRow, CopyTable } from './copy-tables.ts';
import { isSqliteBusy } from './failures.ts';

/** A SQLite file that nobody else can write, or even open, until it is closed. Its rows stay as they are. */
export type CopySource = {
  listMigrations(): string[];
  listTables(): string[];
  listColumns(table: string): string[];
  countRows(table: string): number;
  /** Reads the rows in the order of the primary key, by bytes, one at a time. */
  readRows(table: CopyTable): Iterable<CopyRow>;
  close(): void;
};

// A service that is just stopping needs a moment to let go.
const lockWaitMs = 5_000;

/** Opens a SQLite file that is there already and keeps everybody else out of it. */
export function openCopySource(path: string): CopySource {
  if (!existsSync(path)) throw new CopyRefusedError(`The source does not exist: there is no file ${path}.`);
  const database = new DatabaseSync(addressOf(path), { timeout: lockWaitMs, readBigInts: true, returnArrays: true });
  try {
    keepOthersOut(database, path);
    requireLatchkey(database, path);
  } catch (error) {
    database.close();
    throw error;
  }
  const list = (query: string, ...parameters: string[]) =>
    database
      .prepare(query)
      .all(...parameters)
      .map(firstText);
  return {
    listMigrations: () => list('select name from kysely_migration order by name'),
    listTables: () =>
      list(`select name from sqlite_schema where type = 'table' and name not like 'sqlite\\_%' escape '\\'
        and name not in ('kysely_migration', 'kysely_migration_lock') order by name`),
    listColumns: (table) => list('select name from pragma_table_info(?)', table),
    countRows: (table) => Number(list(`select count(*) from ${quote(table)}`)[0]),
    readRows: (table) => readRows(database, table),
    // Nothing was written. What a killed service has left in the -wal file SQLite itself folds in here.
    close: () => database.close(),
  };
}

/** SQLite would make a missing file; `rw` keeps it from that, also when the file goes away just now. */
function addressOf(path: string): URL {
  const url = pathToFileURL(path);
  url.searchParams.set('mode', 'rw');
  return url;
}

/**
 * Takes the file for ourselves. The exclusive mode is refused while any other process has the file open, if idle: a
 * service that nobody stopped would go on afterwards and acknowledge writes that the target never sees.
 */
function keepOthersOut(database: DatabaseSync, path: string): void {
  try {
    database.exec('pragma locking_mode = exclusive');
    database.exec('begin exclusive');
  } catch (error) {
    if (!isSqliteBusy(error)) throw error;
    throw new CopyRefusedError(
      `Another process has ${path} open: Latchkey itself, another copy, or a tool such as a backup or a SQLite shell. ` +
        'Stop it and run the command again.',
      { cause: error },
    );
  }
}

function requireLatchkey(database: DatabaseSync, path: string): void {
  const table = database.prepare("select name from sqlite_schema where name = 'kysely_migration'").get();
  if (table === undefined) throw new CopyRefusedError(`The source ${path} is no database of Latchkey.`);
  // Writes nothing, and fails where this user may only read: there no lock would keep others from writing.
  database.exec('delete from kysely_migration where false');
}

function* readRows(database: DatabaseSync, { name, key, columns }: CopyTable): Generator<CopyRow> {
  const cells = columns.map((column) => quote(column.name)).join(', ');
  const order = key.map(quote).join(', ');
  const statement = database.prepare(`select ${cells} from ${quote(name)} order by ${order}`);
  for (const row of statement.iterate()) yield toCells(row).map(toText);
}

function toText(value: SQLOutputValue): string | null {
  if (value === null || typeof value === 'string') return value;
  if (typeof value === 'bigint') return value.toString();
  throw new Error(`a cell of a type that no table has: ${typeof value}`);
}

function firstText(row: unknown): string {
  return String(toCells(row)[0]);
}

/** Node's types know rows as objects alone; `returnArrays` makes them arrays. */
function toCells(row: unknown): SQLOutputValue[] {
  return row as SQLOutputValue[];
}

function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
