import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';

/** The command line on a terminal, driven as a person would. */
export type Terminal = {
  /** Waits until the screen shows this after what was shown at the last step, and then types the line. */
  answer(shown: RegExp, line: string): Promise<void>;
  /** The same with a key that is no line, such as Ctrl-C. */
  press(shown: RegExp, key: string): Promise<void>;
  /** Everything that was on the screen, with what was echoed. */
  screen(): string;
  /** The exit code. */
  ended: Promise<number | null>;
};

const main = join(import.meta.dirname, '../src/cli/start.js');
const limitMs = 60_000;
const children = new Set<ChildProcess>();

// A test that fails must leave no process behind.
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL');
});

/** Starts a command on a pseudo-terminal that `script` of util-linux makes, which every Debian has. */
export function openTerminal(
  args: readonly string[],
  { cwd, ...environment }: Record<string, string> & { cwd: string },
): Terminal {
  const command = [process.execPath, main, ...args].map((part) => `'${part.replaceAll("'", "'\\''")}'`).join(' ');
  const child = spawn('script', ['--quiet', '--flush', '--return', '--command', command, '/dev/null'], {
    cwd,
    env: {
      PATH: process.env.PATH,
      TERM: 'xterm',
      SHELL: '/bin/sh',
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE ?? '',
      ...environment,
    },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  children.add(child);
  child.stdin.on('error', () => {});
  let text = '';
  let answered = 0;
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  const limit = setTimeout(() => child.kill('SIGKILL'), limitMs);
  const ended = once(child, 'close').then(([code]) => {
    clearTimeout(limit);
    children.delete(child);
    return code as number | null;
  });

  async function press(shown: RegExp, key: string): Promise<void> {
    const isShown = () => shown.test(stripVTControlCharacters(text.slice(answered)));
    while (!isShown()) {
      const isOver = await Promise.race([once(child.stdout, 'data').then(() => false), ended.then(() => true)]);
      if (isOver && !isShown()) throw new Error(`${shown} was never shown:\n${text}`);
    }
    answered = text.length;
    child.stdin.write(key);
  }

  return { press, answer: (shown, line) => press(shown, `${line}\r`), screen: () => text, ended };
}
