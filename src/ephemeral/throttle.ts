/**
 * Counts attempts and makes those after the free ones wait, each twice as long as the one before. An attempt is
 * counted before anybody knows how it ends, so that any number of parallel ones cannot get past the count.
 */
export type Throttle = {
  /** Counts an attempt and returns true; or returns false, changing nothing, where it is too early for one. */
  count(key: string, rule: ThrottleRule, nowMs: number): Promise<boolean>;
  /** Takes back an attempt that was counted and came to nothing, together with the wait that it began. */
  takeBack(key: string): Promise<void>;
  /** Forgets all attempts of a key. */
  clear(key: string): Promise<void>;
  /** Frees what is no longer remembered. */
  collect(nowMs: number): void;
};

export type ThrottleRule = {
  /** So many attempts need not wait for each other. */
  freeAttempts: number;
  firstWaitMs: number;
  longestWaitMs: number;
  /** A key without attempts for this long starts anew. */
  memoryMs: number;
};

type Counted = { attempts: number; blockedUntilMs: number; forgottenAtMs: number };

// Measured on the heap: 36 MB when full.
const maxKeys = 200_000;
// How far a new key looks for the place of an old one, so that a flood does not pay for a look at all of them.
const lookAtMost = 100;

/** Counts in this process. A restart forgets it. */
export function createMemoryThrottle(limit = maxKeys): Throttle {
  // The key counted longest ago comes first.
  const counted = new Map<string, Counted>();

  /** Frees a place. Nobody is refused for want of one, and nobody who has to wait is let off. */
  function hasRoom(nowMs: number): boolean {
    if (counted.size < limit) return true;
    for (const [key, { blockedUntilMs }] of counted.entries().take(lookAtMost)) {
      if (blockedUntilMs <= nowMs) return counted.delete(key);
    }
    return false;
  }

  return {
    async count(key, rule, nowMs) {
      const found = counted.get(key);
      const known = found !== undefined && found.forgottenAtMs > nowMs ? found : undefined;
      if (known !== undefined && known.blockedUntilMs > nowMs) return false;
      counted.delete(key);
      // What cannot be kept here is still counted in the database.
      if (!hasRoom(nowMs)) return true;
      const attempts = (known?.attempts ?? 0) + 1;
      const blockedUntilMs = nowMs + waitAfter(attempts, rule);
      counted.set(key, { attempts, blockedUntilMs, forgottenAtMs: nowMs + rule.memoryMs });
      return true;
    },

    async takeBack(key) {
      const found = counted.get(key);
      if (found === undefined) return;
      if (found.attempts <= 1) counted.delete(key);
      else Object.assign(found, { attempts: found.attempts - 1, blockedUntilMs: 0 });
    },

    async clear(key) {
      counted.delete(key);
    },

    collect(nowMs) {
      for (const [key, { forgottenAtMs }] of counted) if (forgottenAtMs <= nowMs) counted.delete(key);
    },
  };
}

function waitAfter(attempts: number, { freeAttempts, firstWaitMs, longestWaitMs }: ThrottleRule): number {
  return attempts < freeAttempts ? 0 : Math.min(longestWaitMs, firstWaitMs * 2 ** (attempts - freeAttempts));
}
