import { CopyRefusedError, CopyUncertainError } from './copy-refusal.ts';
import { type CopySource, openCopySource } from './copy-source.ts';
import {
  type CopyRow,
  type CopyTable,
  copiedTables,
  listTablesLeftOut,
  matchTable,
  tablesThatMustBeEmpty,
} from './copy-tables.ts';
import { type CopyTarget, openCopyTarget } from './copy-target.ts';
import { compareRows } from './copy-verify.ts';
import { openDatabase } from './database.ts';
import { applyMigrations } from './migrate.ts';

/** From which SQLite file to which PostgreSQL database. */
export type CopyOptions = {
  sourcePath: string;
  targetUrl: string;
  /** Does everything but the commit. */
  isDryRun: boolean;
  onProgress(progress: CopyProgress): void;
};

/** How far a copy has come: so many rows of this table. */
export type CopyProgress = { step: 'copied' | 'compared'; table: string; rows: number; rowsInTable: number };

/** What was copied, and which tables of the source were not. */
export type CopyReport = { tables: { name: string; rows: number }[]; leftOut: string[] };

// Rows differ in size, a mail has thousands of characters, so both are counted.
const rowsPerBatch = 1_000;
const charactersPerBatch = 2_000_000;

/**
 * Copies everything from a SQLite file to an empty PostgreSQL database, in one transaction: whatever fails, the target
 * is as it was. Nobody else can use the source meanwhile, and its rows are only read.
 */
export async function copyDatabase(options: CopyOptions): Promise<CopyReport> {
  const source = openCopySource(options.sourcePath);
  try {
    const target = await openCopyTarget(options.targetUrl);
    try {
      await prepareTarget(target);
      requireSameMigrations(source.listMigrations(), await target.listMigrations());
      await requireEmpty(target);
      const report = await copyTables(source, target, options.onProgress);
      if (!options.isDryRun) await commit(target);
      return report;
    } finally {
      await target.close();
    }
  } finally {
    source.close();
  }
}

const reasonsNotToPrepare: Readonly<Record<string, string>> = {
  '55P03': 'The target is in use: another copy to it is under way, or Latchkey runs on it. Wait for that, or stop it.',
  '42501': 'The target: the user may not make tables in that database. Grant it CREATE on the schema.',
  '42P07': 'The target has tables of another program with the same names. Use a new, empty database.',
};

/** Makes the tables where there are none, and keeps other copies and services that start out until the end. */
async function prepareTarget(target: CopyTarget): Promise<void> {
  try {
    await target.lockMigrations();
    await applyMigrations(target.tx, 'postgres');
    await target.lock(['roles', ...tablesThatMustBeEmpty]);
  } catch (error) {
    const reason = reasonsNotToPrepare[(error as { code?: string }).code ?? ''];
    throw reason === undefined ? error : new CopyRefusedError(reason, { cause: error });
  }
}

function requireSameMigrations(ofSource: readonly string[], ofThisVersion: readonly string[]): void {
  const unknown = ofSource.filter((name) => !ofThisVersion.includes(name));
  if (unknown.length > 0) {
    throw new CopyRefusedError(
      `The source was made by a newer version of Latchkey (${unknown.join(', ')}). Use the command of that version.`,
    );
  }
  const missing = ofThisVersion.filter((name) => !ofSource.includes(name));
  if (missing.length > 0) {
    throw new CopyRefusedError(
      `The source was last used by an older version of Latchkey (without ${missing.join(', ')}). ` +
        'Start this version once on it, which brings it up to date, stop it and run the command again.',
    );
  }
}

async function requireEmpty(target: CopyTarget): Promise<void> {
  const filled = await target.listFilled(tablesThatMustBeEmpty);
  const hasOwnRoles = JSON.stringify(await listRoles(target.tx)) !== JSON.stringify(await listFirstRoles());
  const found = [...filled, ...(hasOwnRoles ? ['roles'] : [])];
  if (found.length === 0) return;
  throw new CopyRefusedError(
    `The target is not empty: it has rows in ${found.join(', ')}, and a copy replaces nothing. ` +
      'Use a new, empty database. One that Latchkey was started on has keys of its own already.',
  );
}

/** The roles that come with the tables, from a database that has just been made. */
async function listFirstRoles() {
  const fresh = await openDatabase('sqlite::memory:', () => {});
  try {
    return await listRoles(fresh.db);
  } finally {
    await fresh.close();
  }
}

async function listRoles(db: CopyTarget['tx']) {
  const rows = await db.selectFrom('roles').select(['name', 'description', 'permissions', 'created_at']).execute();
  // Not sorted by the database: the two have different orders of text. And PostgreSQL sends a time as text.
  return rows.map((row) => JSON.stringify({ ...row, created_at: Number(row.created_at) })).sort();
}

async function copyTables(
  source: CopySource,
  target: CopyTarget,
  onProgress: CopyOptions['onProgress'],
): Promise<CopyReport> {
  // The source says which roles there are: the first ones may have been edited, or removed.
  await target.tx.deleteFrom('roles').execute();
  const tables: CopyTable[] = [];
  for (const { name, key } of copiedTables) {
    const table = matchTable({ name, key }, source.listColumns(name), await target.listColumns(name));
    const rowsInTable = source.countRows(name);
    await copyRows(source, target, table, (rows) => onProgress({ step: 'copied', table: name, rows, rowsInTable }));
    tables.push(table);
  }
  // What is compared next is planned with these statistics, and so are the first queries of the service.
  await target.analyze(tables.map(({ name }) => name));
  const report: CopyReport = { tables: [], leftOut: listTablesLeftOut(source.listTables()) };
  for (const table of tables) {
    const { name } = table;
    const rowsInTable = source.countRows(name);
    const onRows = (rows: number) => onProgress({ step: 'compared', table: name, rows, rowsInTable });
    const rows = await compareRows(table, source.readRows(table), target.readRows(table), onRows);
    report.tables.push({ name, rows });
  }
  return report;
}

async function copyRows(
  source: CopySource,
  target: CopyTarget,
  table: CopyTable,
  onRows: (copied: number) => void,
): Promise<void> {
  let copied = 0;
  let batch: CopyRow[] = [];
  let characters = 0;
  const send = async () => {
    await target.insert(table, batch);
    copied += batch.length;
    onRows(copied);
    batch = [];
    characters = 0;
  };
  for (const row of source.readRows(table)) {
    batch.push(row);
    for (const cell of row) characters += cell?.length ?? 0;
    if (batch.length >= rowsPerBatch || characters >= charactersPerBatch) await send();
  }
  if (batch.length > 0) await send();
}

async function commit(target: CopyTarget): Promise<void> {
  try {
    await target.commit();
  } catch (error) {
    throw new CopyUncertainError(
      'All rows were copied and compared, but the connection was lost at the very end, and whether the target has kept ' +
        'them is not known. Run the command again: it copies them, or says that the target is not empty, and then it has.',
      { cause: error },
    );
  }
}
