import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { after, before } from 'node:test';
import { createMemoryStore } from '../src/ephemeral/memory.ts';
import { connectRedis, createRedisStore, type RedisConnection } from '../src/ephemeral/redis.ts';
import type { EphemeralStore, Window } from '../src/ephemeral/store.ts';
import { AppError } from '../src/errors.ts';
import { redisUrl } from './backends.ts';

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
        for await (const keys of client.scanIterator({ MATCH: `${prefix}*`, COUNT: 1000 })) {
          if (keys.length > 0) await client.del(keys);
        }
        await store.close();
      },
    };
  },
};

/** The stores that test/run.ts found; run alone, a test file uses the one in memory. */
export const ephemeralBackends: readonly Backend[] = hasRedis ? [memory, redis] : [memory];

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

export async function openRedis(): Promise<RedisConnection> {
  const client = connectRedis(redisUrl, () => {});
  await once(client, 'ready');
  return client;
}

export function isUnavailable(error: unknown): boolean {
  return error instanceof AppError && error.code === 'temporarily_unavailable' && (error.retryAfterSeconds ?? 0) > 0;
}
