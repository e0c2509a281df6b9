import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findFreePort } from '../test/ports.ts';
import { readCpuSeconds, readResidentMebibytes } from '../test/processes.ts';
import { type Backend, createScratch } from '../test/system.ts';
import { encodeRequest, openConnection } from './http-connection.ts';

/** A server in a process of its own. */
export type BenchServer = {
  origin: string;
  port: number;
  pid: number;
  /** From the start of the process to the first time that it said it was ready. */
  readyAfterMs: number;
  /** Processor time that the process has used so far, of all its threads. */
  cpuSeconds(): number;
  /** Resident memory now. */
  memoryMebibytes(): number;
  /** Sends SIGTERM and waits for the end. */
  stop(): Promise<void>;
};

type ServerOptions = {
  /** The file that Node runs. */
  entry: string;
  /** A folder of its own: the working directory, and where its output goes. */
  folder: string;
  environment?: Record<string, string>;
  /** Such as `--cpu-prof`. */
  nodeFlags?: readonly string[];
  /** A path that is answered 200 when the server is ready. */
  readyPath: string;
};

const startLimitMs = 30_000;
const stopLimitMs = 15_000;
const askEveryMs = 2;
const running = new Set<ChildProcess>();

// A bench that fails must leave no process behind.
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/**
 * Starts a server on a free port of this machine and waits until it is ready. What it prints goes to a file, as the log
 * of a service does: to read it here would take time from the processors that are measured.
 */
export async function startServer(options: ServerOptions): Promise<BenchServer> {
  const port = await findFreePort();
  const origin = `http://127.0.0.1:${port}`;
  const outputPath = join(options.folder, `output-${port}.log`);
  const output = openSync(outputPath, 'a');
  const startedAtMs = performance.now();
  const child = spawn(process.execPath, [...(options.nodeFlags ?? []), options.entry], {
    cwd: options.folder,
    env: { PATH: process.env.PATH, HOST: '127.0.0.1', PORT: String(port), ...options.environment },
    stdio: ['ignore', output, output],
  });
  closeSync(output);
  running.add(child);
  const ended = once(child, 'close').then(() => running.delete(child));
  const { pid } = child;
  try {
    await waitUntilReady(child, origin, options.readyPath);
    if (pid === undefined) throw new Error('it has no process');
  } catch (error) {
    child.kill('SIGKILL');
    throw new Error(`${options.entry} did not start: ${error}\n${readFileSync(outputPath, 'utf8').slice(-4_000)}`);
  }
  return {
    origin,
    port,
    pid,
    readyAfterMs: performance.now() - startedAtMs,
    cpuSeconds: () => readCpuSeconds(pid),
    memoryMebibytes: () => readResidentMebibytes(pid),
    async stop() {
      if (!running.has(child)) return;
      child.kill('SIGTERM');
      const limit = setTimeout(() => child.kill('SIGKILL'), stopLimitMs);
      await ended;
      clearTimeout(limit);
    },
  };
}

async function waitUntilReady(child: ChildProcess, origin: string, path: string): Promise<void> {
  const giveUpAtMs = performance.now() + startLimitMs;
  const request = encodeRequest(origin, { method: 'GET', path, headers: { connection: 'close' } });
  while (performance.now() < giveUpAtMs) {
    if (child.exitCode !== null || child.signalCode !== null) throw new Error('its process has ended');
    const reply = await openConnection(origin)
      .then((connection) => connection.send(request).finally(connection.close))
      .catch(() => undefined);
    if (reply?.status === 200) return;
    await sleep(askEveryMs);
  }
  throw new Error(`it was not ready after ${startLimitMs / 1000} s`);
}

/** An empty database with what the program needs to be started on it. */
export type Installation = {
  backend: Backend;
  folder: string;
  /** Everything that the program is started with, for `loadConfig` too. */
  environment: Record<string, string>;
  remove(): Promise<void>;
};

const main = join(import.meta.dirname, '../src/start.js');

/** Makes an empty database and a secret for it. The limits of requests are off: all requests come from one address. */
export async function createInstallation(
  backend: Backend,
  environment: Record<string, string> = {},
): Promise<Installation> {
  const scratch = await createScratch(backend);
  const { DATA_DIR: folder = '' } = scratch.environment;
  return {
    backend,
    folder,
    environment: {
      NODE_ENV: 'development',
      RATE_LIMITS: 'off',
      // The issuer of the access tokens, which must stay what it is when the port changes.
      PUBLIC_URL: 'http://localhost',
      SECRET_KEY: randomBytes(48).toString('base64'),
      ...scratch.environment,
      ...environment,
    },
    remove: scratch.remove,
  };
}

/** Starts the real program on an installation and waits until it can serve logins. */
export function startProgram(
  { folder, environment }: Installation,
  {
    nodeFlags = [],
    environment: more = {},
  }: { nodeFlags?: readonly string[]; environment?: Record<string, string> } = {},
): Promise<BenchServer> {
  return startServer({
    entry: main,
    folder,
    environment: { ...environment, ...more },
    nodeFlags,
    readyPath: '/health/ready',
  });
}
