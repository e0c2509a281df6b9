import { execFileSync } from 'node:child_process';
import { closeSync, fdatasyncSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, cpus, loadavg, release, tmpdir, totalmem, type } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { createClient } from '@redis/client';
import { postgresUrl, redisUrl } from '../test/backends.ts';
import { onPostgres } from '../test/copying.ts';
import type { Backend } from '../test/system.ts';
import type { Results } from './results.ts';
import { median } from './statistics.ts';

const syncs = 200;
const blockBytes = 4_096;

/** Says what it ran on. */
export function describeMachine(): Results['machine'] {
  return {
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    processors: availableParallelism(),
    memoryMebibytes: Math.round(totalmem() / 2 ** 20),
    system: `${type()} ${release()}`,
    fileSystem: findFileSystem(tmpdir()),
    fsyncMs: measureSync(),
    loadAverage: loadavg()[0] ?? 0,
  };
}

/** The kind of the file system that a folder is on: of one in memory, what is durable tells nothing. */
function findFileSystem(folder: string): string {
  const mounts = readFileSync('/proc/self/mounts', 'utf8').trim().split('\n');
  const isWithin = (path: string) => path === '/' || folder === path || folder.startsWith(`${path}/`);
  const around = mounts.map((line) => line.split(' ')).filter(([, path = '']) => isWithin(path));
  return around.toSorted(([, one = ''], [, other = '']) => other.length - one.length)[0]?.[2] ?? 'unknown';
}

/** How long a write takes to be durable in the folder of the databases, which bounds every commit. */
function measureSync(): number {
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-'));
  const file = openSync(join(folder, 'block'), 'w');
  try {
    const tookMs = Array.from({ length: syncs }, (_, index) => {
      const startedAtMs = performance.now();
      writeSync(file, Buffer.alloc(blockBytes, index), 0, blockBytes, index * blockBytes);
      fdatasyncSync(file);
      return performance.now() - startedAtMs;
    });
    return median(tookMs);
  } finally {
    closeSync(file);
    rmSync(folder, { recursive: true });
  }
}

/** The versions of everything whose speed is compared. */
export function describeVersions(): Record<string, string> {
  const root = join(import.meta.dirname, '..');
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  return {
    latchkey: `${version} (${readCommit(root)})`,
    node: process.version,
    fastify: versionOf(createRequire(import.meta.url), 'fastify'),
    sqlite: readSqliteVersion(),
  };
}

/** Reads the version of an installed package. */
export function versionOf(require: NodeJS.Require, name: string): string {
  for (const folder of require.resolve.paths(name) ?? []) {
    try {
      return JSON.parse(readFileSync(join(folder, name, 'package.json'), 'utf8')).version;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  throw new Error(`${name} is not installed`);
}

/** The versions of the servers that are used besides, as they say themselves. */
export async function describeServers(backend: Backend): Promise<Record<string, string>> {
  if (backend === 'sqlite+memory') return {};
  const postgres = await onPostgres(postgresUrl, async (client) => {
    const { rows } = await client.query<{ server_version: string }>('show server_version');
    return rows[0]?.server_version ?? 'unknown';
  });
  const client = createClient({ url: redisUrl });
  await client.connect();
  const redis = /^redis_version:(\S+)/m.exec(await client.info('server'))?.[1] ?? 'unknown';
  client.destroy();
  return { postgres, redis };
}

function readCommit(root: string): string {
  try {
    const words = ['describe', '--always', '--dirty', '--abbrev=10'];
    return execFileSync('git', words, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return 'not a git checkout';
  }
}

function readSqliteVersion(): string {
  const database = new DatabaseSync(':memory:');
  const row = database.prepare('select sqlite_version() as version').get();
  database.close();
  return String(row?.version);
}
