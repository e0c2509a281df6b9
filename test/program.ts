import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

type Environment = Record<string, string>;

/** How a process ended, and after how long. */
type Ending = { code: number | null; signal: NodeJS.Signals | null; afterMs: number };

/** The real program in a process of its own. */
export type Program = {
  /** Where it listens. */
  origin: string;
  port: number;
  /** Everything that it printed so far. */
  output(): string;
  /** Sends the signal and waits for the end; the time counts from the signal. */
  stop(signal: NodeJS.Signals): Promise<Ending>;
};

const main = join(import.meta.dirname, '../src/main.ts');
const startLimitMs = 20_000;
const children = new Set<ChildProcess>();

// A test that fails must leave no process behind.
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL');
});

/** Starts the program on a free port and waits until it listens. */
export async function startProgram(environment: Environment): Promise<Program> {
  const { child, output, ended } = spawnProgram(environment);
  const port = await Promise.race([listeningPort(child, output), ended.then(() => undefined)]);
  assert.ok(port, `the program did not start:\n${output()}`);
  return {
    origin: `http://127.0.0.1:${port}`,
    port,
    output,
    async stop(signal) {
      const sentAtMs = performance.now();
      child.kill(signal);
      return { ...(await ended), afterMs: performance.now() - sentAtMs };
    },
  };
}

/** Runs a start that must fail, and returns how it ended with what it printed. */
export async function failStart(environment: Environment): Promise<Ending & { output: string }> {
  const { child, output, ended } = spawnProgram(environment);
  const limit = setTimeout(() => child.kill('SIGKILL'), startLimitMs);
  const ending = await ended;
  clearTimeout(limit);
  return { ...ending, output: output() };
}

function spawnProgram(environment: Environment) {
  const startedAtMs = performance.now();
  const child = spawn(process.execPath, [main], {
    // Not the repository, whose .env would be read.
    cwd: environment.DATA_DIR,
    env: {
      PATH: process.env.PATH,
      NODE_ENV: 'development',
      HOST: '127.0.0.1',
      PORT: '0',
      BCRYPT_COST: '4',
      RATE_LIMITS: 'off',
      ...environment,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.add(child);
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
  }
  const ended = once(child, 'close').then(([code, signal]): Ending => {
    children.delete(child);
    return { code, signal, afterMs: performance.now() - startedAtMs };
  });
  return { child, output: () => text, ended };
}

async function listeningPort(child: ChildProcess, output: () => string): Promise<number> {
  for (;;) {
    const port = /Server listening at http:\/\/[^"]+:(\d+)/.exec(output())?.[1];
    // The handlers of signals are there once it answers.
    if (port !== undefined && (await fetch(`http://127.0.0.1:${port}/health/live`)).ok) return Number(port);
    await Promise.race(child.stdio.flatMap((stream) => (stream ? [once(stream, 'data')] : [])));
  }
}

// biome-ignore lint/suspicious/noExplicitAny: a test reads whatever the reply holds and asserts on it.
type Answer = { status: number; body: any };

/** Sends JSON and reads the JSON that comes back. */
export async function post({ origin }: Program, path: string, body: unknown): Promise<Answer> {
  const response = await fetch(origin + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}

/** Reads JSON, with an access token where one is given. */
export async function get({ origin }: Program, path: string, token?: string): Promise<Answer> {
  const headers = { accept: 'application/json', ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) };
  const response = await fetch(origin + path, { headers });
  return { status: response.status, body: await response.json() };
}

/** Registers an account with the code that the development mailbox holds. */
export async function register(program: Program, email: string, password: string): Promise<Answer> {
  const purpose = 'registration';
  assert.equal((await post(program, '/auth/send-code', { email, purpose })).status, 202);
  const { body } = await get(program, '/dev/mailbox');
  const code = body.items.find((mail: { to: string }) => mail.to === email).subject.slice(0, 6);
  const proof = await post(program, '/auth/verify-code', { email, purpose, code });
  return post(program, '/auth/register', { verification_token: proof.body.verification_token, password });
}
