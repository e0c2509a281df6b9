#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
import packageJson from '../../package.json' with { type: 'json' };
import { loadEnvFile } from '../env-file.ts';
import { explainStartError } from '../start-error.ts';
import { CommandFailedError } from './command-failed.ts';
import { addCopyDatabase } from './copy-database.ts';
import { addUsersExport } from './users-export.ts';
import { addUsersImport } from './users-import.ts';

const exitCodes = { done: 0, failed: 1, notUnderstood: 2 };

const program = new Command('latchkey')
  .description(
    'Looks after an installation of Latchkey. It reads the same environment variables as the service, and .env ' +
      'unless NODE_ENV is production.',
  )
  .version(packageJson.version, '-V, --version', 'print the version')
  .helpOption('-h, --help', 'print this, or after a command what it does')
  .helpCommand(false)
  .addHelpText('after', '\nExit codes: 0 done, 1 failed, 2 arguments not understood.')
  .showHelpAfterError('(--help says more)')
  .exitOverride();
addCopyDatabase(program);
const users = program.command('users').summary('import and export users').description('Looks after users.');
addUsersImport(users);
addUsersExport(users);

process.exit(await run());

async function run(): Promise<number> {
  try {
    if (process.env.NODE_ENV !== 'production') loadEnvFile();
    await program.parseAsync();
    return exitCodes.done;
  } catch (error) {
    // Commander has printed what it has to say. Asking for help is no mistake.
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.done : exitCodes.notUnderstood;
    console.error(error instanceof CommandFailedError ? error.message : explainStartError(error, undefined));
    return exitCodes.failed;
  }
}
