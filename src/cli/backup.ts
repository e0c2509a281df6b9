import type { Command } from 'commander';
import { databaseUrlOf, loadDatabaseSettings } from '../config.ts';
import { type BackupProgress, BackupRefusedError, type BackupReport, backUpDatabase } from '../db/backup.ts';
import { describeDatabaseFault } from '../start-error.ts';
import { CommandFailedError } from './command-failed.ts';
import { exitCodes } from './exit-codes.ts';

type Options = { json?: true };

const sqlitePrefix = 'sqlite:';
const progressIntervalMs = 2_000;

const explanation = `
It copies the SQLite database as it is at this moment while the service runs and
writes, reads the whole copy to check it, and only then gives it its name. A
file that is there is never overwritten; the new one can be read by you alone.
To restore, stop the service and put the file in the place of latchkey.db,
without the files latchkey.db-wal and latchkey.db-shm.

SECRET_KEY is not in it, and without it the backup is worthless: keep it, or in
development secret.key in DATA_DIR, in another place.

PostgreSQL has its own tools: pg_dump, or a base backup with archived WAL.

Example:
  latchkey backup /var/backups/latchkey-$(date +%F).db`;

/** Adds `backup`, which copies the SQLite database while the service runs. */
export function addBackup(program: Command): void {
  program
    .command('backup')
    .argument('<file>', 'the new file')
    .summary('copy the SQLite database while the service runs')
    .description('Copies the SQLite database into a new file, while the service runs, and checks the copy.')
    .option('--json', 'print the result as JSON')
    .addHelpText('after', explanation)
    .action(async (targetPath: string, { json }: Options) => {
      const startedAtMs = performance.now();
      const report = await backUp(findSource(), targetPath);
      const durationMs = Math.round(performance.now() - startedAtMs);
      console.log(json ? renderJson(report, targetPath, durationMs) : renderText(report, targetPath, durationMs));
    });
}

function findSource(): string {
  const url = databaseUrlOf(loadDatabaseSettings(process.env));
  if (url.startsWith(sqlitePrefix)) return url.slice(sqlitePrefix.length);
  throw new CommandFailedError(
    'DATABASE_URL names PostgreSQL, whose own tools make better backups. For one file, as a user who may read every ' +
      'table: pg_dump --format=custom --file=latchkey.dump <database>. To restore it: pg_restore --dbname=<empty database>.',
  );
}

async function backUp(sourcePath: string, targetPath: string): Promise<BackupReport> {
  const interruption = new AbortController();
  const interrupt = () => interruption.abort(new Error('interrupted'));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, interrupt);
  try {
    return await backUpDatabase({ sourcePath, targetPath, onProgress: createProgress(), signal: interruption.signal });
  } catch (error) {
    if (interruption.signal.aborted) {
      throw new CommandFailedError('Interrupted: no backup was made.', {
        exitCode: exitCodes.interrupted,
        cause: error,
      });
    }
    throw new CommandFailedError(`No backup was made. ${explain(error)}`, { cause: error });
  }
}

function explain(error: unknown): string {
  if (error instanceof BackupRefusedError) return error.message;
  if (!(error instanceof Error)) return String(error);
  return describeDatabaseFault(error) ?? error.stack ?? error.message;
}

function createProgress(): (progress: BackupProgress) => void {
  let shownAtMs = performance.now();
  return ({ step, pages, pagesTotal }) => {
    const nowMs = performance.now();
    if (nowMs - shownAtMs < progressIntervalMs) return;
    shownAtMs = nowMs;
    console.error(step === 'checking' ? 'checking the copy' : `${Math.floor((pages / pagesTotal) * 100)} % copied`);
  };
}

function renderJson({ bytes }: BackupReport, file: string, durationMs: number): string {
  return JSON.stringify({ file, bytes, checked: true, duration_ms: durationMs });
}

function renderText({ bytes }: BackupReport, file: string, durationMs: number): string {
  const size = `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
  return [
    `${file}: ${size}, copied and checked in ${(durationMs / 1000).toFixed(1)} s.`,
    'Keep SECRET_KEY in another place: without it nobody can log in on a restored database.',
  ].join('\n');
}
