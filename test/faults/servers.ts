import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, existsSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '@redis/client';
import pg from 'pg';
import { findFreePort } from '../ports.ts';
import { listChildren, sendSignal } from '../processes.ts';

/** A server that one test file has to itself, so that it can be stopped and frozen. */
export type PrivateServer = {
  url: string;
  /** Holds its files, and PostgreSQL's socket. */
  folder: string;
  start(): Promise<void>;
  /** Ends the server at once. What it has kept on disk is there at the next start. */
  stop(): Promise<void>;
  /** Lets every process of the server stand still: connections stay open and nothing answers. */
  freeze(): void;
  thaw(): void;
  /** Ends the server and removes its files. */
  remove(): Promise<void>;
};

type Kind = 'postgres' | 'redis';

const startLimitMs = 20_000;

/** Says why a server of this kind cannot be started here; false when it can. CI requires both, and so never skips. */
export function reasonToSkip(kind: Kind): string | false {
  if ((process.env.REQUIRE_BACKENDS ?? '').split(',').includes(kind)) return false;
  if (kind === 'postgres') return findPostgresBinaries() === undefined && 'PostgreSQL’s programs are not installed';
  return findRedisBinary() === undefined && 'redis-server is not installed';
}

type PostgresSetup = {
  /** As `name=value`. */
  settings?: readonly string[];
  /** Lines of pg_hba.conf for connections over TCP; everybody is let in when there are none. */
  access?: readonly string[];
  /** Files beside the data, which settings can name. */
  files?: Readonly<Record<string, string>>;
};

/** Starts a PostgreSQL of its own on a free port. Its socket file lets everybody in. */
export async function startPostgres({
  settings = [],
  access = ['host all all 127.0.0.1/32 trust'],
  files = {},
}: PostgresSetup = {}): Promise<PrivateServer> {
  const binaries = findPostgresBinaries();
  if (binaries === undefined) throw new Error('PostgreSQL’s programs are not installed');
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-postgres-'));
  const data = join(folder, 'data');
  const user = findPostgresUser();
  if (user !== undefined) chownSync(folder, user.uid, user.gid);
  chmodSync(folder, 0o700);
  const options = { cwd: folder, env: { LC_ALL: 'C', PATH: process.env.PATH ?? '' }, ...user };
  const init = ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'];
  execFileSync(join(binaries, 'initdb'), init, { ...options, stdio: 'ignore' });
  const hba = `${['local all all trust', ...access].join('\n')}\n`;
  for (const [name, content] of Object.entries({ ...files, 'pg_hba.conf': hba })) {
    writeFileSync(join(data, name), content, { mode: 0o600 });
    if (user !== undefined) chownSync(join(data, name), user.uid, user.gid);
  }
  const port = await findFreePort();
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
  const all = ['listen_addresses=127.0.0.1', `unix_socket_directories=${folder}`, 'fsync=off', ...settings];
  const args = ['-D', data, '-p', String(port), ...all.flatMap((setting) => ['-c', setting])];
  return runServer({
    url,
    folder,
    launch: () => spawn(join(binaries, 'postgres'), args, { ...options, stdio: 'ignore' }),
    // A shutdown that cuts every connection. SIGKILL would leave its shared memory behind.
    stopSignal: 'SIGQUIT',
    probe: async () => {
      const client = new pg.Client({ host: folder, port, user: 'postgres', database: 'postgres' });
      client.on('error', () => {});
      await client.connect();
      await client.end();
    },
  });
}

/** Starts a Redis of its own on a free port, with further directives of redis.conf. */
export async function startRedis(directives: readonly string[] = []): Promise<PrivateServer> {
  const port = await findFreePort();
  const lines = [`port ${port}`, 'save ""', 'appendonly no', ...directives];
  return runRedis({ url: `redis://127.0.0.1:${port}`, lines, options: [] });
}

/** Starts redis-server with a file of directives, which it may write to, and options of the command line. */
export async function runRedis(recipe: { url: string; lines: readonly string[]; options: readonly string[] }) {
  const { url, lines, options } = recipe;
  const binary = findRedisBinary();
  if (binary === undefined) throw new Error('redis-server is not installed');
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-redis-'));
  const file = join(folder, 'redis.conf');
  writeFileSync(file, [`dir ${folder}`, 'bind 127.0.0.1', ...lines, ''].join('\n'));
  return runServer({
    url,
    folder,
    launch: () => spawn(binary, [file, ...options], { stdio: 'ignore' }),
    stopSignal: 'SIGKILL',
    probe: async () => {
      const client = createClient({ url, RESP: 2, socket: { reconnectStrategy: false } });
      client.on('error', () => {});
      await client.connect();
      await client.ping();
      client.destroy();
    },
  });
}

type Recipe = {
  url: string;
  folder: string;
  launch: () => ChildProcess;
  stopSignal: NodeJS.Signals;
  probe: () => Promise<void>;
};

async function runServer({ url, folder, launch, stopSignal, probe }: Recipe): Promise<PrivateServer> {
  let child: ChildProcess | undefined;
  let frozen: number[] = [];

  const thaw = () => {
    for (const pid of frozen) sendSignal(pid, 'SIGCONT');
    frozen = [];
  };
  const server: PrivateServer = {
    url,
    folder,
    async start() {
      child = launch();
      endWithThisProcess(child, stopSignal);
      await waitUntilAnswering(child, probe);
    },
    async stop() {
      thaw();
      if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
      const exited = once(child, 'exit');
      child.ref();
      sendSignal(child.pid, stopSignal);
      await exited;
    },
    freeze() {
      const parent = child?.pid;
      if (parent === undefined) throw new Error('the server does not run');
      frozen = [parent, ...listChildren(parent)];
      for (const pid of frozen) sendSignal(pid, 'SIGSTOP');
    },
    thaw,
    async remove() {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
  try {
    await server.start();
  } catch (error) {
    await server.remove();
    throw error;
  }
  return server;
}

// A test that fails half-way may leave a server behind. It neither keeps the test file from ending nor outlives it.
function endWithThisProcess(child: ChildProcess, signal: NodeJS.Signals): void {
  child.unref();
  const end = () => child.pid !== undefined && sendSignal(child.pid, signal);
  process.once('exit', end);
  child.once('exit', () => process.off('exit', end));
}

async function waitUntilAnswering(child: ChildProcess, probe: () => Promise<void>): Promise<void> {
  const giveUpAtMs = Date.now() + startLimitMs;
  for (;;) {
    try {
      return await probe();
    } catch (error) {
      const hasEnded = child.exitCode !== null || child.signalCode !== null;
      if (hasEnded || Date.now() >= giveUpAtMs) throw new Error('the server did not start', { cause: error });
    }
    await sleep(20);
  }
}

function findPostgresBinaries(): string | undefined {
  return globSync('/usr/lib/postgresql/*/bin')
    .sort()
    .findLast((folder) => existsSync(join(folder, 'initdb')));
}

function findRedisBinary(): string | undefined {
  const folders = (process.env.PATH ?? '').split(':');
  return [...folders, '/usr/bin', '/usr/local/bin']
    .map((folder) => join(folder, 'redis-server'))
    .find((path) => existsSync(path));
}

/** PostgreSQL refuses to run as root; Debian's package makes a user for it. */
export function findPostgresUser(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const line = readFileSync('/etc/passwd', 'utf8').match(/^postgres:[^:]*:(\d+):(\d+):/m);
  if (line === null) throw new Error('there is no user postgres to run PostgreSQL as');
  return { uid: Number(line[1]), gid: Number(line[2]) };
}
