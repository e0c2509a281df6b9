import { CommanderError } from 'commander';
import { loadEnvFile } from '../env-file.ts';
import { AppError } from '../errors.ts';
import { explainCommandError } from '../start-error.ts';
import { CommandFailedError } from './command-failed.ts';
import { exitCodes } from './exit-codes.ts';
import { createProgram } from './program.ts';
import { explainRefusal } from './refusal.ts';

// Whoever reads a list through `head` has read enough.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

const exitCode = await run();
// What a pipe has not taken yet would be lost.
for (const stream of [process.stdout, process.stderr]) await new Promise((resolve) => stream.write('', resolve));
process.exit(exitCode);

async function run(): Promise<number> {
  try {
    if (process.env.NODE_ENV !== 'production') loadEnvFile();
    await createProgram().parseAsync();
    return Number(process.exitCode ?? exitCodes.done);
  } catch (error) {
    // Commander has printed what it has to say. Asking for help is no mistake.
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.done : exitCodes.notUnderstood;
    console.error(explain(error));
    return error instanceof CommandFailedError ? error.exitCode : exitCodes.failed;
  }
}

function explain(error: unknown): string {
  if (error instanceof CommandFailedError) return error.message;
  return error instanceof AppError ? explainRefusal(error) : explainCommandError(error);
}
