import { AppError } from '../errors.ts';
import type { Entry, EphemeralStore, SpendResult, Window } from './store.ts';

// How much is kept at most. A full store refuses rather than evicts, so that a flood cannot push out the code
// of somebody who waits for it. A code lasts minutes but a budget a day, so there is room for ten times as
// many. Measured on the heap: 46 MB for 100,000 codes; 135 MB for a million budgets with one use each, 205 MB
// with ten. A look through a million budgets takes 25 ms.
const memoryLimits = { entries: 100_000, budgets: 1_000_000 };

const sweepEveryMs = 1_000;
const retryAfterSeconds = 60;

/** Keeps short-lived state in this process: the default, for one instance. A restart forgets it. */
export function createMemoryStore(limits = memoryLimits): EphemeralStore {
  const entries = new Map<string, Entry>();
  // The times of use, oldest first, and nothing else.
  const budgets = new Map<string, readonly number[]>();
  let longestWindowMs = 0;

  function sweepEntries(nowMs: number): void {
    for (const [key, { expiresAtMs }] of entries) if (expiresAtMs <= nowMs) entries.delete(key);
  }

  // A use counts until the longest window is over: only then is a budget the same as none.
  function sweepBudgets(nowMs: number): void {
    const overMs = nowMs - longestWindowMs;
    for (const [key, times] of budgets) if ((times.at(-1) ?? 0) <= overMs) budgets.delete(key);
  }

  const makeRoomForEntry = createRoomMaker(entries, limits.entries, sweepEntries);
  const makeRoomForBudget = createRoomMaker(budgets, limits.budgets, sweepBudgets);

  function findLive(key: string, nowMs: number): Entry | undefined {
    const entry = entries.get(key);
    return entry !== undefined && entry.expiresAtMs > nowMs ? entry : undefined;
  }

  return {
    async put(key, entry, nowMs) {
      makeRoomForEntry(key, nowMs);
      entries.set(key, { ...entry });
    },

    async peek(key, digest, nowMs) {
      const entry = findLive(key, nowMs);
      return entry?.digest === digest ? entry.payload : undefined;
    },

    async take(key, digests, nowMs) {
      const entry = findLive(key, nowMs);
      if (entry === undefined) return undefined;
      if (entry.tries !== undefined) entry.tries -= 1;
      const matches = digests.includes(entry.digest);
      if (matches || entry.tries === 0) entries.delete(key);
      return matches ? entry.payload : undefined;
    },

    async remove(keys) {
      for (const key of keys) entries.delete(key);
    },

    async spend(key, windows, nowMs): Promise<SpendResult> {
      const longestMs = Math.max(...windows.map((window) => window.perMs));
      const times = (budgets.get(key) ?? []).filter((time) => time > nowMs - longestMs);
      const retryAfterMs = Math.max(...windows.map((window) => waitFor(window, times, nowMs)));
      if (retryAfterMs > 0) return { allowed: false, retryAfterMs };
      longestWindowMs = Math.max(longestWindowMs, longestMs);
      makeRoomForBudget(key, nowMs);
      // Joined rather than appended to: an array that grows reserves room for a dozen more.
      budgets.set(key, times.concat(nowMs));
      return { allowed: true };
    },

    async refund(key, spentAtMs) {
      const times = budgets.get(key) ?? [];
      const index = times.lastIndexOf(spentAtMs);
      if (index < 0) return;
      if (times.length === 1) budgets.delete(key);
      else budgets.set(key, times.toSpliced(index, 1));
    },

    async collect(nowMs) {
      sweepEntries(nowMs);
      sweepBudgets(nowMs);
    },

    async ping() {},
    async close() {},
  };
}

/** Makes the check before a write: a full map is swept, and when nothing has expired a new key is refused. */
function createRoomMaker(map: ReadonlyMap<string, unknown>, limit: number, sweep: (nowMs: number) => void) {
  let sweptAtMs: number | undefined;
  return (key: string, nowMs: number): void => {
    if (map.size < limit || map.has(key)) return;
    // A flood against a full map must not pay for a look at all of it each time.
    if (sweptAtMs === undefined || Math.abs(nowMs - sweptAtMs) >= sweepEveryMs) {
      sweptAtMs = nowMs;
      sweep(nowMs);
    }
    if (map.size < limit) return;
    const cause = new Error(`the in-memory store holds ${limit} keys; configure REDIS_URL`);
    throw new AppError('temporarily_unavailable', { retryAfterSeconds, cause });
  };
}

function waitFor(window: Window, times: readonly number[], nowMs: number): number {
  const recent = times.filter((time) => time > nowMs - window.perMs);
  const oldestThatCounts = recent.at(-window.uses);
  return oldestThatCounts === undefined ? 0 : oldestThatCounts + window.perMs - nowMs;
}
