import type { RedisConnection } from './redis-connection.ts';
import { createRedisPause } from './redis-pause.ts';

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
  /** The same for every user at once: nothing is served while it lasts, which is longer than any entry lives. */
  blockAll(): Promise<void>;
};

/** For how long an entry is served at most: what a revocation that could not reach Redis leaves open. */
export const sessionCacheLifeMs = 10_000;
// Longer than the life of an entry and every time-out of a database transaction together, so that no entry which was
// read before the commit is alive when the block ends.
const blockMs = 120_000;
// A look-up that takes longer is slower than the database that it is to spare.
const lookUpDeadlineMs = 100;
const blockDeadlineMs = 500;

/** Creates the cache. Each step is a script on one key, so it works on a cluster too. */
export function createSessionCache(client: RedisConnection, prefix: string): SessionCache {
  const pause = createRedisPause();
  const keyOf = (userId: string) => `${prefix}sessions:{${userId}}`;
  const keyOfAll = `${prefix}sessions-blocked`;

  async function confirm(send: (lifeMs: string) => Promise<unknown>): Promise<void> {
    const wasPaused = pause.isOn();
    // Sent all the same, so that it is carried out where Redis only stands still.
    const blocked = send(String(blockMs));
    await pause.within(wasPaused ? lookUpDeadlineMs : blockDeadlineMs, blocked);
  }

  return {
    async read(userId, sessionId) {
      if (pause.isOn()) return undefined;
      // Two keys, which a cluster may keep on two servers, so they are not read in one moment. They need not be: whoever
      // asks after a change of a role was committed finds the block, which was there before.
      const isBlocked = client.latchkeySessionsBlocked(keyOfAll);
      const entry = client.latchkeySessionRead(keyOf(userId), sessionId);
      const both = pause.within(lookUpDeadlineMs, Promise.all([isBlocked, entry]));
      // The connection reports its own failures.
      const [blocked, found] = await both.catch(() => [true, undefined] as const);
      return blocked ? undefined : found;
    },

    async fill(userId, sessionId, entry, readAtMs) {
      const lifeMs = Math.floor(sessionCacheLifeMs - (performance.now() - readAtMs));
      if (pause.isOn() || lifeMs <= 0) return;
      const filled = client.latchkeySessionFill(keyOf(userId), sessionId, String(lifeMs), entry);
      await pause.within(lookUpDeadlineMs, filled).catch(() => {});
    },

    block: (userId) => confirm((life) => client.latchkeySessionBlock(keyOf(userId), life)),

    // An entry that is filled meanwhile was read ten seconds before it dies, so that it is dead when this ends.
    blockAll: () => confirm((life) => client.latchkeySessionsBlock(keyOfAll, life)),
  };
}
