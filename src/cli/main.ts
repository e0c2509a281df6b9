#!/usr/bin/env node
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

process.exit(await run());

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
