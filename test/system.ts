import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe } from 'node:test';
import { createClient } from '@redis/client';
import { sql } from 'kysely';
import pg from 'pg';
import type { DestinationStream } from 'pino';
import { buildApp } from '../src/app.ts';
import { type Config, loadConfig } from '../src/config.ts';
import { createDeps, type Deps } from '../src/deps.ts';
import type { ApiInstance } from '../src/http/api.ts';
import { createLog } from '../src/log.ts';
import { postgresUrl, redisUrl } from './backends.ts';
import { recordingDestination, recordSystem } from './canaries/systems.ts';
import { createTestClock, type TestClock } from './clock.ts';

/** A running system with its own database and its own keys, and the clock that it lives by. */
export type System = { app: ApiInstance; deps: Deps; clock: TestClock; close(): Promise<void> };

/** The pairs of back ends of the contract. */
export type Backend = 'sqlite+memory' | 'postgres+redis';

/** The pairs that test/run.ts found; run alone, a test file uses SQLite and memory. */
export const backends: readonly Backend[] = process.env.FOUND_BACKENDS?.match(/postgres.*redis/)
  ? ['sqlite+memory', 'postgres+redis']
  : ['sqlite+memory'];

type Environment = Record<string, string>;

// Cheap hashing and no limits per client: what is tested elsewhere would only slow every other test.
const testEnvironment: Environment = {
  NODE_ENV: 'test',
  PUBLIC_URL: 'http://latchkey.test',
  BCRYPT_COST: '4',
  RATE_LIMITS: 'off',
  LOG_LEVEL: recordingDestination === undefined ? 'silent' : 'trace',
  DATABASE_START_WAIT_SECONDS: '0',
};

/** Runs the same tests on every pair of back ends, each with a system of its own. */
export function describeOnBackends(
  title: string,
  environment: Environment,
  define: (system: () => System, backend: Backend) => void,
): void {
  for (const backend of backends) {
    describe(`${title} (${backend})`, () => {
      let system: System | undefined;
      before(async () => {
        system = await startSystem(backend, environment);
      });
      after(async () => {
        await system?.close();
      });
      define(() => {
        if (system === undefined) throw new Error('the system has not started');
        return system;
      }, backend);
    });
  }
}

/** Starts a system on a fresh database. Its log goes to the destination, or to standard output. */
export async function startSystem(
  backend: Backend,
  environment: Environment = {},
  destination: DestinationStream | undefined = recordingDestination,
): Promise<System> {
  const scratch = await createScratch(backend);
  const clock = createTestClock();
  const config = loadConfig({
    ...testEnvironment,
    SECRET_KEY: randomBytes(48).toString('base64'),
    ...scratch.environment,
    ...environment,
  });
  const system = await openSystem(config, { clock, redisPrefix: scratch.redisPrefix, destination });
  return {
    ...system,
    async close() {
      await system.close();
      await scratch.remove();
    },
  };
}

/** Starts a second instance on the database, the Redis and the secret of a system. Close it before that one. */
export function startPeer({ deps: { config, redisPrefix }, clock }: System): Promise<System> {
  return openSystem(config, { clock, redisPrefix, destination: recordingDestination });
}

type Surroundings = { clock: TestClock; redisPrefix: string; destination: DestinationStream | undefined };

async function openSystem(config: Config, { clock, redisPrefix, destination }: Surroundings): Promise<System> {
  const log = await createLog(config.environment.LOG_LEVEL, false, destination);
  const deps = await createDeps(config, { log, clock, redisPrefix });
  if (deps.redis !== undefined) await waitUntilReady(deps);
  const app = await buildApp(deps);
  return {
    app,
    deps,
    clock,
    async close() {
      await recordSystem(deps);
      await app.close();
      await deps.close();
    },
  };
}

/** A database of its own and a prefix for its keys; `remove` leaves nothing behind. */
type Scratch = { environment: Environment; redisPrefix: string; remove(): Promise<void> };

/** Makes an empty database for one system. */
export async function createScratch(backend: Backend): Promise<Scratch> {
  const name = `latchkey_test_${randomBytes(8).toString('hex')}`;
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-'));
  const removeFolder = () => rmSync(folder, { recursive: true, force: true });
  if (backend === 'sqlite+memory') {
    return { environment: { DATA_DIR: folder }, redisPrefix: '', remove: async () => removeFolder() };
  }
  const url = new URL(postgresUrl);
  await asPostgresOwner(`create database ${name}`);
  url.pathname = `/${name}`;
  return {
    environment: { DATA_DIR: folder, DATABASE_URL: url.href, REDIS_URL: redisUrl },
    redisPrefix: `${name}:`,
    async remove() {
      removeFolder();
      await asPostgresOwner(`drop database ${name} with (force)`);
      await removeKeys(`${name}:*`);
    },
  };
}

async function asPostgresOwner(statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: postgresUrl });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

/** Removes what a test has left in the Redis that all tests share. */
export async function removeKeys(pattern: string): Promise<void> {
  const client = createClient({ url: redisUrl });
  await client.connect();
  for await (const keys of client.scanIterator({ MATCH: pattern, COUNT: 1000 })) {
    if (keys.length > 0) await client.del(keys);
  }
  client.destroy();
}

/** Waits until the connection to Redis is there, which starts on its own. */
export async function waitUntilReady(deps: Deps): Promise<void> {
  const giveUpAtMs = Date.now() + 5_000;
  while (Date.now() < giveUpAtMs) {
    if (deps.redis?.isReady) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error('Redis did not become ready');
}

// Not the counts of wrong passwords, which a refused password is meant to change.
const tables = [
  'users',
  'sessions',
  'roles',
  'user_roles',
  'pending_email_changes',
  'known_devices',
  'outbox',
  'audit_events',
];

/** Counts the rows of every table. */
export async function countRows({ deps }: System): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const table of tables) {
    const { rows } = await sql<{ count: number }>`select count(*) as count from ${sql.table(table)}`.execute(deps.db);
    counts[table] = Number(rows[0]?.count);
  }
  return counts;
}

/** A digest of every row of every table but the events, so that a change that adds no row is seen too. */
export async function digestRows({ deps }: System): Promise<string> {
  const hash = createHash('sha256');
  for (const table of tables.filter((name) => name !== 'audit_events')) {
    const { rows } = await sql`select * from ${sql.table(table)}`.execute(deps.db);
    hash.update(JSON.stringify(rows.map((row) => JSON.stringify(row)).sort()));
  }
  return hash.digest('base64url');
}
