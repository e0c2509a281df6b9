import { answerWithin } from '../deadline.ts';
import { AppError } from '../errors.ts';
import type { RedisConnection } from './redis-connection.ts';
import { commandDeadlineMs } from './redis-link.ts';
import type { EphemeralStore } from './store.ts';

const retryAfterSeconds = 5;

/** Keeps short-lived state in Redis, for several instances. Keys carry the prefix. */
export function createRedisStore(client: RedisConnection, prefix: string): EphemeralStore {
  async function guarded<T>(command: () => Promise<T>): Promise<T> {
    try {
      return await answerWithin(commandDeadlineMs, command());
    } catch (cause) {
      throw new AppError('temporarily_unavailable', { retryAfterSeconds, cause });
    }
  }

  const takeBack = (key: string, spentAtMs: number) => client.lRem(prefix + key, -1, String(spentAtMs));

  /** A use that was refused here may be recorded once Redis comes back to itself, and must not count then. */
  function refundLate(spent: Promise<number>, key: string, spentAtMs: number): void {
    // Behind it on the same connection, so that it holds even if this process is gone by then; and again
    // after the answer, because a script that Redis does not know is sent anew.
    takeBack(key, spentAtMs).catch(() => {});
    spent.then((retryAfterMs) => (retryAfterMs > 0 ? 0 : takeBack(key, spentAtMs))).catch(() => {});
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

    async spend(key, windows, nowMs) {
      const args = windows.flatMap(({ uses, perMs }) => [String(uses), String(perMs)]);
      const spent = client.latchkeySpend(prefix + key, String(nowMs), ...args);
      try {
        const retryAfterMs = await guarded(() => spent);
        return retryAfterMs > 0 ? { allowed: false, retryAfterMs } : { allowed: true };
      } catch (error) {
        refundLate(spent, key, nowMs);
        throw error;
      }
    },

    refund: (key, spentAtMs) =>
      guarded(async () => {
        await takeBack(key, spentAtMs);
      }),

    // Redis collects by PEXPIRE.
    collect: async () => {},

    ping: () => guarded(() => client.ping()),
    close: async () => client.close(),
  };
}
