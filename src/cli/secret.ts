import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import { CommandFailedError } from './command-failed.ts';

type Options = { output?: string };

const secretBytes = 48;

const explanation = `
It prints the secret and nothing else, so that it can go into a file or a vault.
The one in use is neither read nor printed by any command; latchkey doctor shows
its fingerprint.

To rotate SECRET_KEY, start every instance with "old,new", then every one with
"new,old", and take the old value away when latchkey doctor says that nothing
depends on it any more. A single instance can begin with "new,old". The order
matters: docs/decisions/0007-rotating-the-secret.md.

Examples:
  latchkey secret generate --output secret.key  # and SECRET_KEY_FILE=secret.key
  printf 'SECRET_KEY=%s\\n' "$(latchkey secret generate)" >> .env`;

/** Adds `secret generate`, which makes a value for SECRET_KEY. */
export function addSecret(program: Command): void {
  program
    .command('secret')
    .summary('make a value for SECRET_KEY')
    .helpCommand(false)
    .description('Makes a value for SECRET_KEY.')
    .command('generate')
    .summary('print a new secret')
    .description(`Prints a new secret: ${secretBytes} bytes from the random generator of the system, in base64url.`)
    .option('--output <file>', 'write it to a new file that only you can read, and print nothing')
    .addHelpText('after', explanation)
    .action(({ output }: Options) => {
      const secret = randomBytes(secretBytes).toString('base64url');
      if (output === undefined) console.log(secret);
      else writeNewFile(output, `${secret}\n`);
    });
}

/** Never over a file that is there: what it holds may be the only copy of a secret that a database depends on. */
function writeNewFile(path: string, content: string): void {
  try {
    writeFileSync(path, content, { mode: 0o600, flag: 'wx', flush: true });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new CommandFailedError(
      code === 'EEXIST'
        ? `${path} is there already and stays as it is. Name a new file.`
        : `${path} cannot be written (${code}).`,
      { cause: error },
    );
  }
}
