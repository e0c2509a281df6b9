import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { listSecrets } from './canaries/exchange-secrets.ts';
import { recording } from './canaries/recording.ts';
import { listChildren, sendSignal } from './processes.ts';

type Environment = Record<string, string>;

/** How a process ended, and after how long. */
type Ending = { code: number | null; signal: NodeJS.Signals | null; afterMs: number };

/** The real program in a process of its own. */
export type Program = {
  /** Where it listens. */
  origin: string;
  port: number;
  pid: number;
  /** Everything that it printed so far. */
  output(): string;
  /** Sends the signal and waits for the end; the time counts from the signal. */
  stop(signal: NodeJS.Signals): Promise<Ending>;
};

const main = join(import.meta.dirname, '../src/start.js');
const startLimitMs = 20_000;
// What a start that fails prints is compared to the letter, so that is left as it is.
const recordedEnvironment: Environment = recording === undefined ? {} : { LOG_LEVEL: 'trace' };
const running = new Set<number>();

// A test that fails must leave no process behind.
process.on('exit', () => {
  for (const pid of running) sendSignal(pid, 'SIGKILL');
});

/**
 * Starts the program on a free port and waits until it listens. A wrapper is a command that runs it, in its own place or
 * as its child; every signal goes to the program.
 */
export async function startProgram(environment: Environment, wrapper: readonly string[] = []): Promise<Program> {
  const spawned = spawnProgram({ ...recordedEnvironment, ...environment }, wrapper);
  const { child, output, ended } = spawned;
  const address = await waitUntilListening(spawned);
  const pid = wrapper.length === 0 ? child.pid : (listChildren(child.pid ?? 0)[0] ?? child.pid);
  assert.ok(pid, 'the program has no process');
  running.add(pid);
  ended.then(() => running.delete(pid));
  return { ...address, pid, output, stop: (signal) => stopBySignal(spawned, pid, signal) };
}

/** A program that has been started and need not listen yet. */
export type StartingProgram = Pick<Program, 'output' | 'stop'> & {
  ended: Promise<Ending>;
  /** Resolves in the turn in which the text is printed. */
  printed(text: string): Promise<void>;
  /** Rejects when the program ends without having listened. */
  listening: Promise<Pick<Program, 'origin' | 'port'>>;
};

/** Starts the program on a free port and does not wait. */
export function launchProgram(environment: Environment): StartingProgram {
  const spawned = spawnProgram({ ...recordedEnvironment, ...environment });
  const { child, output, ended } = spawned;
  const listening = waitUntilListening(spawned);
  // Whoever stops it before it listens does not ask.
  listening.catch(() => {});
  return {
    listening,
    output,
    ended,
    async printed(text) {
      while (!output().includes(text)) await nextOutput(child);
    },
    stop: (signal) => stopBySignal(spawned, child.pid ?? 0, signal),
  };
}

type Spawned = ReturnType<typeof spawnProgram>;

async function waitUntilListening({ child, output, ended }: Spawned): Promise<Pick<Program, 'origin' | 'port'>> {
  const port = await Promise.race([listeningPort(child, output), ended.then(() => undefined)]);
  assert.ok(port, `the program did not start:\n${output()}`);
  return { origin: `http://127.0.0.1:${port}`, port };
}

async function stopBySignal({ ended }: Spawned, pid: number, signal: NodeJS.Signals): Promise<Ending> {
  const sentAtMs = performance.now();
  // The number of a process that has ended may be another's by now.
  if (running.has(pid)) sendSignal(pid, signal);
  return { ...(await ended), afterMs: performance.now() - sentAtMs };
}

/** Runs a start that must fail, or is killed before it is done, and returns how it ended with what it printed. */
export async function failStart(
  environment: Environment,
  killAfterMs = startLimitMs,
): Promise<Ending & { output: string }> {
  const { child, output, ended } = spawnProgram(environment);
  const limit = setTimeout(() => child.kill('SIGKILL'), killAfterMs);
  const ending = await ended;
  clearTimeout(limit);
  return { ...ending, output: output() };
}

function spawnProgram(environment: Environment, wrapper: readonly string[] = []) {
  const startedAtMs = performance.now();
  const [command = '', ...args] = [...wrapper, process.execPath, main];
  const child = spawn(command, args, {
    // Not the repository, whose .env would be read.
    cwd: environment.DATA_DIR,
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE ?? '',
      NODE_ENV: 'development',
      HOST: '127.0.0.1',
      PORT: '0',
      BCRYPT_COST: '4',
      RATE_LIMITS: 'off',
      // A start that must fail should do so at once.
      DATABASE_START_WAIT_SECONDS: '0',
      ...environment,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  if (child.pid !== undefined) running.add(child.pid);
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
  }
  const ended = once(child, 'close').then(([code, signal]): Ending => {
    running.delete(child.pid ?? 0);
    recording?.text('log', text);
    return { code, signal, afterMs: performance.now() - startedAtMs };
  });
  return { child, output: () => text, ended };
}

async function listeningPort(child: ChildProcess, output: () => string): Promise<number> {
  for (;;) {
    const port = /Server listening at http:\/\/[^"]+:(\d+)/.exec(output())?.[1];
    // The handlers of signals are there once it answers.
    if (port !== undefined && (await fetch(`http://127.0.0.1:${port}/health/live`)).ok) return Number(port);
    await nextOutput(child);
  }
}

async function nextOutput(child: ChildProcess): Promise<void> {
  await Promise.race(child.stdio.flatMap((stream) => (stream ? [once(stream, 'data')] : [])));
}

// biome-ignore lint/suspicious/noExplicitAny: a test reads whatever the reply holds and asserts on it.
export type Answer = { status: number; body: any };

/** A request with a JSON body and an access token where they are given. */
export type ProgramRequest = {
  method: string;
  path: string;
  body?: unknown;
  token?: string | undefined;
  userAgent?: string;
};

/** Makes a request and reads the JSON that comes back; rejects when no whole answer does. */
export async function send({ origin }: Pick<Program, 'origin'>, request: ProgramRequest): Promise<Answer> {
  const { method, path, body, token, userAgent } = request;
  const response = await fetch(origin + path, {
    method,
    headers: {
      accept: 'application/json',
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(userAgent === undefined ? {} : { 'user-agent': userAgent }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  const answer: Answer = { status: response.status, body: text === '' ? undefined : JSON.parse(text) };
  recordSecrets(request, answer);
  return answer;
}

/** Leaves what is secret to the search for canaries; codes are not, because development writes its mail to the log. */
function recordSecrets({ body, token }: ProgramRequest, answer: Answer): void {
  if (recording === undefined) return;
  const used = listSecrets({ access_token: token });
  const got = answer.status < 300 ? listSecrets(answer.body) : [];
  for (const [kind, secret] of [...listSecrets(body), ...got, ...used])
    if (kind !== 'code') recording.secret(kind, secret);
}

/** Sends JSON and reads the JSON that comes back. */
export function post(program: Program, path: string, body: unknown): Promise<Answer> {
  return send(program, { method: 'POST', path, body });
}

/** Reads JSON, with an access token where one is given. */
export function get(program: Pick<Program, 'origin'>, path: string, token?: string): Promise<Answer> {
  return send(program, { method: 'GET', path, token });
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
