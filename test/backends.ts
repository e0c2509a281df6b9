import { createClient } from '@redis/client';
import pg from 'pg';

/** What a test can run on: the two pairs are SQLite with memory, and PostgreSQL with Redis. */
type BackendName = 'sqlite' | 'postgres' | 'redis';

export const postgresUrl = process.env.TEST_POSTGRES_URL ?? 'postgres://postgres@127.0.0.1:5432/postgres';
export const redisUrl = process.env.TEST_REDIS_URL ?? 'redis://127.0.0.1:6379';

const probeTimeoutMs = 3_000;

/** Looks which back ends answer. SQLite is part of Node. */
export async function findBackends(): Promise<Set<BackendName>> {
  const [hasPostgres, hasRedis] = await Promise.all([answers(probePostgres), answers(probeRedis)]);
  return new Set<BackendName>([
    'sqlite',
    ...(hasPostgres ? ['postgres' as const] : []),
    ...(hasRedis ? ['redis' as const] : []),
  ]);
}

/** Fails when REQUIRE_BACKENDS names one that is not there, so that CI cannot pass by skipping. */
export function requireBackends(found: ReadonlySet<BackendName>): void {
  const required = (process.env.REQUIRE_BACKENDS ?? '').split(',').filter((name) => name !== '') as BackendName[];
  const missing = required.filter((name) => !found.has(name));
  if (missing.length > 0) throw new Error(`REQUIRE_BACKENDS names what is not there: ${missing.join(', ')}`);
}

async function answers(probe: () => Promise<void>): Promise<boolean> {
  try {
    await probe();
    return true;
  } catch {
    return false;
  }
}

async function probePostgres(): Promise<void> {
  const client = new pg.Client({ connectionString: postgresUrl, connectionTimeoutMillis: probeTimeoutMs });
  await client.connect();
  await client.end();
}

async function probeRedis(): Promise<void> {
  const client = createClient({ url: redisUrl, socket: { connectTimeout: probeTimeoutMs, reconnectStrategy: false } });
  client.on('error', () => {});
  await client.connect();
  client.destroy();
}
