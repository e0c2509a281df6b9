import { AppError } from '../errors.ts';
import type { Entry, EphemeralStore, SpendResult, Window } from './store.ts';

// Two entries of some hundred bytes for each address under way: a few tens of megabytes when full. A full
// store refuses rather than evicts, so that a flood cannot push out the code of somebody who waits for it.
const maxKeys = 100_000;
const sweepEvery = 1_000;

type Spent = { times: number[]; expiresAtMs: number };

/** Keeps short-lived state in this process: the default, for one instance. A restart forgets it. */
export function createMemoryStore(): EphemeralStore {
  const entries = new Map<string, Entry>();
  const budgets = new Map<string, Spent>();
  let writes = 0;

  function makeRoom(map: Map<string, { expiresAtMs: number }>, key: string, nowMs: number): void {
    writes += 1;
    if (writes % sweepEvery === 0 || map.size >= maxKeys) {
      removeExpired(entries, nowMs);
      removeExpired(budgets, nowMs);
    }
    if (map.size >= maxKeys && !map.has(key)) {
      throw new AppError('temporarily_unavailable', {
        retryAfterSeconds: 60,
        cause: new Error(`the in-memory store holds ${maxKeys} keys; configure REDIS_URL`),
      });
    }
  }

  function findLive(key: string, nowMs: number): Entry | undefined {
    const entry = entries.get(key);
    return entry !== undefined && entry.expiresAtMs > nowMs ? entry : undefined;
  }

  return {
    async put(key, entry, nowMs) {
      makeRoom(entries, key, nowMs);
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
      const times = (budgets.get(key)?.times ?? []).filter((time) => time > nowMs - longestMs);
      const retryAfterMs = Math.max(...windows.map((window) => waitFor(window, times, nowMs)));
      if (retryAfterMs > 0) return { allowed: false, retryAfterMs };
      makeRoom(budgets, key, nowMs);
      budgets.set(key, { times: [...times, nowMs], expiresAtMs: nowMs + longestMs });
      return { allowed: true };
    },

    async refund(key, spentAtMs) {
      const budget = budgets.get(key);
      const index = budget?.times.lastIndexOf(spentAtMs) ?? -1;
      if (index >= 0) budget?.times.splice(index, 1);
    },

    async collect(nowMs) {
      removeExpired(entries, nowMs);
      removeExpired(budgets, nowMs);
    },

    async ping() {},
    async close() {},
  };
}

function waitFor(window: Window, times: readonly number[], nowMs: number): number {
  const recent = times.filter((time) => time > nowMs - window.perMs);
  const oldestThatCounts = recent.at(-window.uses);
  return oldestThatCounts === undefined ? 0 : oldestThatCounts + window.perMs - nowMs;
}

function removeExpired(map: Map<string, { expiresAtMs: number }>, nowMs: number): void {
  for (const [key, { expiresAtMs }] of map) {
    if (expiresAtMs <= nowMs) map.delete(key);
  }
}
