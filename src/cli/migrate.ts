import type { Command } from 'commander';
import { databaseUrlOf, loadDatabaseSettings } from '../config.ts';
import { findPendingMigrations, upgradeTables } from '../db/upgrade.ts';
import { explainDatabaseFault } from '../start-error.ts';
import { exitCodes } from './exit-codes.ts';

type Options = { check?: true; json?: true };

const explanation = `
A start of the service does this too; the command is for those who run it with a
user who may change no tables (docs/least-privilege.sql), or before a release.
All of it happens in one transaction, or nothing. It needs DATABASE_URL or
DATA_DIR and no SECRET_KEY.

With --check it changes nothing and ends with 3 when something is pending.

Example:
  DATABASE_URL_FILE=owner.url latchkey migrate`;

/** Adds `migrate`, which brings the tables up to date. */
export function addMigrate(program: Command): void {
  program
    .command('migrate')
    .summary('bring the tables up to date')
    .description('Makes the tables, or brings them up to date, and exits.')
    .option('--check', 'change nothing; say what is pending, and end with 3 if anything is')
    .option('--json', 'print the result as JSON')
    .addHelpText('after', explanation)
    .action(async ({ check, json }: Options) => {
      const settings = loadDatabaseSettings(process.env);
      const url = databaseUrlOf(settings);
      const wait = { limitSeconds: settings.startWaitSeconds, onWait: tellAbsence };
      const names = await (check ? findPendingMigrations(url, wait) : upgradeTables(url, wait, tellTurn));
      console.log(json ? JSON.stringify({ [check ? 'pending' : 'applied']: names }) : describe(names, check === true));
      if (check && names.length > 0) process.exitCode = exitCodes.declined;
    });
}

function tellAbsence(error: unknown, secondsLeft: number): void {
  console.error(
    `${explainDatabaseFault(error) ?? 'The database is away.'} Waiting for it, ${secondsLeft} more seconds at most.`,
  );
}

function tellTurn(): void {
  console.error('Another process is bringing the tables up to date; waiting for it.');
}

function describe(names: readonly string[], isCheck: boolean): string {
  if (names.length === 0) return 'The tables are up to date.';
  return isCheck
    ? `Pending: ${names.join(', ')}. Back up the database, then run: latchkey migrate`
    : `Applied: ${names.join(', ')}. The tables are up to date.`;
}
