import type { RedisConnection } from './redis-connection.ts';
import { createRedisPause } from './redis-pause.ts';
import { createMemoryThrottle, type Throttle } from './throttle.ts';

// Nobody logs in faster for a slow answer, and this process's own count stands in for it.
const answerLimitMs = 500;

/**
 * Counts in this process always, and with Redis for all instances together; the stricter count holds. So a Redis that
 * goes away, is flushed or hangs makes the throttle no looser than one instance's own, and no login waits for it.
 */
export function createThrottle(redis: RedisConnection | undefined, prefix: string): Throttle {
  const own = createMemoryThrottle();
  if (redis === undefined) return own;
  const keyOf = (key: string) => `${prefix}guessing:${key}`;
  const pause = createRedisPause();

  async function ask<T>(otherwise: T, question: () => Promise<T>): Promise<T> {
    if (pause.isOn()) return otherwise;
    try {
      return await pause.within(answerLimitMs, question());
    } catch {
      // The connection reports its own failures.
      return otherwise;
    }
  }

  return {
    async count(key, rule, nowMs) {
      if (!(await own.count(key, rule, nowMs))) return false;
      const { freeAttempts, firstWaitMs, longestWaitMs, memoryMs } = rule;
      const args = [nowMs, freeAttempts, firstWaitMs, longestWaitMs, memoryMs].map(String);
      if (await ask(true, () => redis.latchkeyAttempt(keyOf(key), ...args))) return true;
      await own.takeBack(key);
      return false;
    },

    async takeBack(key) {
      await own.takeBack(key);
      await ask<unknown>(undefined, () => redis.latchkeyTakeAttemptBack(keyOf(key)));
    },

    async clear(key) {
      await own.clear(key);
      await ask(0, () => redis.del(keyOf(key)));
    },

    collect: (nowMs) => own.collect(nowMs),
  };
}
