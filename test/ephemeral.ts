import { randomBytes } from 'node:crypto';
import { after, before } from 'node:test';
import { createMemoryStore } from '../src/ephemeral/memory.ts';
import { createRedisStore } from '../src/ephemeral/redis.ts';
import { connectRedis, type RedisConnection } from '../src/ephemeral/redis-connection.ts';
import type { EphemeralStore, Window } from '../src/ephemeral/store.ts';
import { AppError } from '../src/errors.ts';
import { redisUrl } from './backends.ts';
import { startCluster, waitFor } from './faults/redis-groups.ts';
import { reasonToSkip } from './faults/servers.ts';
import { removeKeys } from './system.ts';

export const hasRedis = process.env.FOUND_BACKENDS?.includes('redis') ?? false;
export const minuteMs = 60_000;
export const hourMs = 60 * minuteMs;
export const dayMs = 24 * hourMs;
export const sendBudget: readonly Window[] = [
  { uses: 1, perMs: minuteMs },
  { uses: 5, perMs: hourMs },
  { uses: 10, perMs: dayMs },
];

type Backend = { name: string; open(): Promise<{ store: EphemeralStore; close(): Promise<void> }> };

const memory: Backend = {
  name: 'memory',
  open: async () => ({ store: createMemoryStore(), close: async () => {} }),
};

const redis: Backend = {
  name: 'redis',
  async open() {
    const prefix = `latchkey_test_${randomBytes(8).toString('hex')}:`;
    const client = await openRedis();
    const store = createRedisStore(client, prefix);
    return {
      store,
      async close() {
        await store.close();
        await removeKeys(`${prefix}*`);
      },
    };
  },
};

const redisCluster: Backend = {
  name: 'redis cluster',
  async open() {
    const cluster = await startCluster();
    const store = createRedisStore(await openRedis(cluster.url), 'latchkey_test:');
    return {
      store,
      async close() {
        await store.close();
        await cluster.remove();
      },
    };
  },
};

/** The stores that test/run.ts found; run alone, a test file uses the one in memory. */
export const ephemeralBackends: readonly Backend[] = [
  memory,
  ...(hasRedis ? [redis] : []),
  ...(hasRedis && reasonToSkip('redis') === false ? [redisCluster] : []),
];

/** Opens a store for the tests of a suite. */
export function useStore(backend: Backend): () => EphemeralStore {
  let opened: Awaited<ReturnType<Backend['open']>> | undefined;
  before(async () => {
    opened = await backend.open();
  });
  after(() => opened?.close());
  return () => {
    if (opened === undefined) throw new Error('the store is not open');
    return opened.store;
  };
}

/** A key that no other test uses. */
export function newKey(): string {
  return `{${randomBytes(8).toString('hex')}}:key`;
}

/** Connects, and waits until every key can be served. */
export async function openRedis(
  url = redisUrl,
  onError: (error: Error) => void = () => {},
  onWarning: (text: string) => void = () => {},
): Promise<RedisConnection> {
  const client = connectRedis(url, onError, onWarning);
  await waitFor(async () => client.isReady, 10_000);
  return client;
}

export function isUnavailable(error: unknown): boolean {
  return error instanceof AppError && error.code === 'temporarily_unavailable' && (error.retryAfterSeconds ?? 0) > 0;
}
