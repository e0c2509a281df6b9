import { execFile } from 'node:child_process';
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Program, startProgram } from '../program.ts';

const run = promisify(execFile);
const root = join(import.meta.dirname, '../..');
const pasteLimitMs = 110_000;

/** Makes a folder one in which the commands of the pages can be typed: npm looks there for its package. */
export function makeServiceFolder(folder: string): void {
  for (const name of ['package.json', 'src', 'node_modules']) symlinkSync(join(root, name), join(folder, name));
}

/** Pastes blocks of a page into bash in a folder, and returns what they print. A command that fails fails the paste. */
export async function paste(
  blocks: string | readonly string[],
  folder: string,
  environment: Record<string, string>,
): Promise<string> {
  // The pages about incidents say that this is what "latchkey" stands for; npm itself would only take time.
  const preamble = `latchkey() { '${process.execPath}' '${join(root, 'src/cli/start.js')}' "$@"; }`;
  const script = [preamble, ...[blocks].flat()].join('\n');
  const { stdout } = await run('bash', ['-euo', 'pipefail', '-c', script], {
    cwd: folder,
    env: {
      PATH: `${join(root, 'node_modules/.bin')}:${process.env.PATH}`,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE ?? '',
      HOME: folder,
      BCRYPT_COST: '4',
      ...environment,
    },
    timeout: pasteLimitMs,
  });
  return stdout;
}

/** Runs the program for as long as the check takes. */
export async function whileRunning<Outcome>(
  environment: Record<string, string>,
  check: (program: Program) => Promise<Outcome>,
): Promise<Outcome> {
  const program = await startProgram(environment);
  try {
    return await check(program);
  } finally {
    await program.stop('SIGTERM');
  }
}
