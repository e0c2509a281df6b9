import { createClient } from '@redis/client';
import { AppError } from '../errors.ts';
import { redisScripts } from './redis-scripts.ts';
import type { EphemeralStore } from './store.ts';

const connectTimeoutMs = 2_000;
const commandTimeoutMs = 1_000;
const maxQueuedCommands = 10_000;
const maxReconnectDelayMs = 2_000;
const retryAfterSeconds = 5;

/** The one connection to Redis or Valkey. It reconnects by itself for ever and never queues while it is away. */
export type RedisConnection = ReturnType<typeof createRedisClient>;

function createRedisClient(url: string) {
  return createClient({
    url,
    scripts: redisScripts,
    // A command must fail at once while Redis is away: a queue would answer long after the caller left.
    disableOfflineQueue: true,
    commandsQueueMaxLength: maxQueuedCommands,
    commandOptions: { timeout: commandTimeoutMs },
    socket: {
      connectTimeout: connectTimeoutMs,
      reconnectStrategy: (attempts) => Math.min(50 * 2 ** Math.min(attempts, 10), maxReconnectDelayMs),
    },
  });
}

/** Starts connecting and returns at once: an absent Redis at the start is a warning, and it heals. */
export function connectRedis(url: string, onError: (error: Error) => void): RedisConnection {
  const client = createRedisClient(url);
  client.on('error', onError);
  client.connect().catch(onError);
  return client;
}

/** Keeps short-lived state in Redis, for several instances. Keys carry the prefix. */
export function createRedisStore(client: RedisConnection, prefix: string): EphemeralStore {
  async function guarded<T>(command: () => Promise<T>): Promise<T> {
    try {
      return await command();
    } catch (cause) {
      throw new AppError('temporarily_unavailable', { retryAfterSeconds, cause });
    }
  }

  return {
    put: (key, { digest, payload, expiresAtMs, tries }, nowMs) =>
      guarded(async () => {
        const args = [digest, payload, String(expiresAtMs), tries === undefined ? '' : String(tries), String(nowMs)];
        await client.latchkeyPut(prefix + key, ...args);
      }),

    peek: (key, digest, nowMs) => guarded(() => client.latchkeyPeek(prefix + key, digest, String(nowMs))),

    take: (key, digests, nowMs) => guarded(() => client.latchkeyTake(prefix + key, String(nowMs), ...digests)),

    // One command a key: on a cluster the keys may live on different nodes.
    remove: (keys) =>
      guarded(async () => {
        await Promise.all(keys.map((key) => client.del(prefix + key)));
      }),

    spend: (key, windows, nowMs) =>
      guarded(async () => {
        const args = windows.flatMap(({ uses, perMs }) => [String(uses), String(perMs)]);
        const retryAfterMs = await client.latchkeySpend(prefix + key, String(nowMs), ...args);
        return retryAfterMs > 0 ? { allowed: false, retryAfterMs } : { allowed: true };
      }),

    refund: (key, spentAtMs) =>
      guarded(async () => {
        await client.lRem(prefix + key, -1, String(spentAtMs));
      }),

    // Redis collects by PEXPIRE.
    collect: async () => {},

    ping: () =>
      guarded(async () => {
        await client.ping();
      }),

    close: async () => {
      if (client.isOpen) client.destroy();
    },
  };
}
