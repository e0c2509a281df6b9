import { join } from 'node:path';
import type { Command } from 'commander';
import { type DatabaseSettings, findDatabaseUrlFault, loadDatabaseSettings } from '../config.ts';
import type { CopyProgress, CopyReport } from '../db/copy.ts';
import { CopyRefusedError, CopyUncertainError } from '../db/copy-refusal.ts';
import { describeDatabaseFault } from '../start-error.ts';
import { CommandFailedError } from './command-failed.ts';

type Options = { from?: string; to?: string; dryRun?: true; json?: true };

/** The two ends of a copy. `targetName` is the target without user and password. */
type Ends = { sourcePath: string; targetUrl: string; targetName: string };

const sqlitePrefix = 'sqlite:';
const progressIntervalMs = 2_000;

// Lines of at most 80 characters, as Commander makes them.
const explanation = `
It copies every user, session, role, key, event and waiting mail in one
transaction, reads everything back and compares it. Whatever fails, and also if
it is interrupted, both databases are as they were, and it can be run again.

Stop Latchkey first: a file that another process has open is refused.

A URL with a password does not belong into the arguments, which everybody on the
machine can read. Put it into DATABASE_URL, or into a file that DATABASE_URL_FILE
names, and leave out --to.

The whole move:
  1. Make an empty PostgreSQL database. Stop Latchkey.
  2. DATABASE_URL=postgres://… npm run cli -- copy-database \\
       --from sqlite:./data/latchkey.db
  3. Start Latchkey with the new DATABASE_URL and the same SECRET_KEY. Where none
     was set, in development, it is in secret.key in DATA_DIR: keep that folder.
The SQLite file stays as it was. To go back, start Latchkey on it again; what
happened since the move is then only in PostgreSQL.`;

/** Adds `copy-database`, which moves an installation from SQLite to PostgreSQL. */
export function addCopyDatabase(program: Command): void {
  program
    .command('copy-database')
    .summary('copy everything from SQLite to PostgreSQL')
    .description('Copies everything from SQLite to an empty PostgreSQL database.')
    .option('--from <url>', 'the SQLite file, sqlite:<path> (default: DATABASE_URL, or sqlite:<DATA_DIR>/latchkey.db)')
    .option('--to <url>', 'the empty database, postgres://… without a password (default: DATABASE_URL)')
    .option('--dry-run', 'do everything, the comparison too, and take it back at the end')
    .option('--json', 'print the result as JSON')
    .addHelpText('after', explanation)
    .action(async (options: Options, command: Command) => {
      const ends = chooseEnds(options, loadDatabaseSettings(process.env), (message) => command.error(message));
      const startedAtMs = performance.now();
      const report = await copy(ends, options.dryRun === true);
      const result = { ...report, isDryRun: options.dryRun === true, durationMs: performance.now() - startedAtMs };
      console.log(options.json ? renderJson(result) : renderText(result, ends));
    });
}

/** DATABASE_URL is the end that it fits, so that it can be the old one or, with its password, the new one. */
function chooseEnds(
  { from, to }: Options,
  { dataDir, databaseUrl }: DatabaseSettings,
  refuse: (message: string) => never,
): Ends {
  const isSqlite = databaseUrl?.startsWith(sqlitePrefix) === true;
  const sourceUrl = from ?? (isSqlite ? databaseUrl : `${sqlitePrefix}${join(dataDir, 'latchkey.db')}`);
  const targetUrl = to ?? (isSqlite ? undefined : databaseUrl);
  if (targetUrl === undefined) refuse('There is no target: set DATABASE_URL to postgres://…, or give --to.');
  // First, whatever else is wrong with it: who has done it should know that it was seen.
  if (to !== undefined && hasPassword(to)) {
    refuse(
      '--to must not hold a password: everybody on this machine can read the arguments of a process. ' +
        'Change the password if others work here. Put the URL into DATABASE_URL, or into a file that ' +
        'DATABASE_URL_FILE names, and leave out --to.',
    );
  }
  for (const [name, url] of Object.entries({ '--from': sourceUrl, '--to': targetUrl })) {
    const fault = findDatabaseUrlFault(url);
    if (fault !== undefined) refuse(`${name} ${fault}.`);
  }
  if (!sourceUrl.startsWith(sqlitePrefix)) refuse('--from must be SQLite, sqlite:<path>: it is copied to PostgreSQL.');
  if (targetUrl.startsWith(sqlitePrefix)) refuse('--to must be PostgreSQL, postgres://…: SQLite is copied to it.');
  const { host, pathname } = new URL(targetUrl);
  return { sourcePath: sourceUrl.slice(sqlitePrefix.length), targetUrl, targetName: `${host}${pathname}` };
}

function hasPassword(url: string): boolean {
  if (!URL.canParse(url)) return false;
  const { password, searchParams } = new URL(url);
  return password !== '' || searchParams.has('password');
}

async function copy({ sourcePath, targetUrl }: Ends, isDryRun: boolean): Promise<CopyReport> {
  try {
    // Loaded only here: no other command on SQLite needs the driver of PostgreSQL.
    const { copyDatabase } = await import('../db/copy.ts');
    return await copyDatabase({ sourcePath, targetUrl, isDryRun, onProgress: createProgress() });
  } catch (error) {
    throw new CommandFailedError(explainCopyError(error), { cause: error });
  }
}

/** Writes a line now and then to standard error, where it is in nobody's way; nothing where the copy is quick. */
function createProgress(): (progress: CopyProgress) => void {
  let shownAtMs = performance.now();
  return ({ step, table, rows, rowsInTable }) => {
    const nowMs = performance.now();
    if (nowMs - shownAtMs < progressIntervalMs) return;
    shownAtMs = nowMs;
    console.error(`${table}: ${format(rows)} of ${format(rowsInTable)} rows ${step}`);
  };
}

/** Says why nothing was copied, without the properties of an error, in which a URL with its password may be. */
function explainCopyError(error: unknown): string {
  if (error instanceof CopyUncertainError) return error.message;
  if (error instanceof CopyRefusedError) return `Nothing was copied. ${error.message}`;
  if (!(error instanceof Error)) return `Nothing was copied: ${String(error)}`;
  const { code = '', errcode } = error as Error & { code?: string; errcode?: number };
  const end = errcode === undefined ? 'target' : 'source';
  const fault = describeDatabaseFault(error);
  if (fault !== undefined) return `Nothing was copied. The ${end}: ${fault}`;
  // A state that PostgreSQL gives with its own words, which hold no values.
  if (/^[0-9A-Z]{5}$/.test(code)) return `Nothing was copied. The target: ${error.message} (${code}).`;
  return `Nothing was copied. ${error.stack ?? error.message}`;
}

type Result = CopyReport & { isDryRun: boolean; durationMs: number };

function renderJson({ tables, leftOut, isDryRun, durationMs }: Result): string {
  return JSON.stringify({
    dry_run: isDryRun,
    rows: countRows(tables),
    tables: Object.fromEntries(tables.map(({ name, rows }) => [name, rows])),
    left_out: leftOut,
    duration_ms: Math.round(durationMs),
  });
}

function renderText({ tables, leftOut, isDryRun, durationMs }: Result, { sourcePath, targetName }: Ends): string {
  const width = Math.max(...tables.map(({ name }) => name.length));
  const counts = tables.map(({ name, rows }) => `  ${name.padEnd(width)} ${format(rows).padStart(12)}`);
  const seconds = (durationMs / 1000).toFixed(1);
  const next = isDryRun
    ? ['That was a rehearsal: the target is as it was.']
    : [
        'Next: set DATABASE_URL to the new database, leave SECRET_KEY (in development: DATA_DIR) as it is, and start',
        `Latchkey. ${sourcePath} is as it was: keep it until you are sure.`,
      ];
  return [
    `Copied ${format(countRows(tables))} rows from ${sourcePath} to ${targetName} in ${seconds} s and compared each:`,
    ...counts,
    `Left out: ${leftOut.join(', ')}.`,
    '',
    ...next,
  ].join('\n');
}

function countRows(tables: CopyReport['tables']): number {
  return tables.reduce((sum, { rows }) => sum + rows, 0);
}

function format(count: number): string {
  return count.toLocaleString('en');
}
