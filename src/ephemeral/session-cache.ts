import { answerWithin } from '../deadline.ts';
import type { RedisConnection } from './redis-connection.ts';

/**
 * What the guard found in the database, kept in Redis for every instance for a few seconds. The database is the
 * truth: whatever is doubtful is a miss, and no failure of Redis reaches a caller.
 */
export type SessionCache = {
  /** Returns the entry of a session; undefined when there is none, it may not be served, or Redis is away. */
  read(userId: string, sessionId: string): Promise<string | undefined>;
  /** Keeps what was read from the database at this moment of `performance.now()`, unless the user was blocked since. */
  fill(userId: string, sessionId: string, entry: string, readAtMs: number): Promise<void>;
  /**
   * Drops every entry of a user and lets none in for longer than any read that is under way could take. Called before
   * the commit of whatever ends or changes a session. Rejects when Redis did not confirm it.
   */
  block(userId: string): Promise<void>;
};

/** For how long an entry is served at most: what a revocation that could not reach Redis leaves open. */
export const sessionCacheLifeMs = 10_000;
// Longer than the life of an entry and every time-out of a database transaction together, so that no entry which was
// read before the commit is alive when the block ends.
const blockMs = 120_000;
// A look-up that takes longer is slower than the database that it is to spare.
const lookUpDeadlineMs = 100;
const blockDeadlineMs = 500;
// While Redis fails, nobody waits for it again and again.
const pauseMs = 1_000;

/** Creates the cache. Each step is one script on one key, so it works on a cluster too. */
export function createSessionCache(client: RedisConnection, prefix: string): SessionCache {
  let pausedUntilMs = 0;
  const isPaused = () => performance.now() < pausedUntilMs;
  const keyOf = (userId: string) => `${prefix}sessions:{${userId}}`;

  async function within<T>(deadlineMs: number, answer: Promise<T>): Promise<T> {
    try {
      return await answerWithin(deadlineMs, answer);
    } catch (error) {
      pausedUntilMs = performance.now() + pauseMs;
      throw error;
    }
  }

  return {
    async read(userId, sessionId) {
      if (isPaused()) return undefined;
      // The connection reports its own failures.
      return within(lookUpDeadlineMs, client.latchkeySessionRead(keyOf(userId), sessionId)).catch(() => undefined);
    },

    async fill(userId, sessionId, entry, readAtMs) {
      const lifeMs = Math.floor(sessionCacheLifeMs - (performance.now() - readAtMs));
      if (isPaused() || lifeMs <= 0) return;
      const filled = client.latchkeySessionFill(keyOf(userId), sessionId, String(lifeMs), entry);
      await within(lookUpDeadlineMs, filled).catch(() => {});
    },

    async block(userId) {
      const wasPaused = isPaused();
      const blocked = client.latchkeySessionBlock(keyOf(userId), String(blockMs));
      // Sent all the same, so that it is carried out where Redis only stands still.
      await within(wasPaused ? lookUpDeadlineMs : blockDeadlineMs, blocked);
    },
  };
}
