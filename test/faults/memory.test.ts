import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createMemoryStore } from '../../src/ephemeral/memory.ts';
import type { Entry } from '../../src/ephemeral/store.ts';
import { AppError } from '../../src/errors.ts';

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const dayMs = 24 * hourMs;
const sendBudget = [
  { uses: 1, perMs: minuteMs },
  { uses: 5, perMs: hourMs },
  { uses: 10, perMs: dayMs },
];
const nowMs = Date.now();

describe('the memory store under a flood', () => {
  test('a flood of addresses that fills the budgets leaves room for the codes of those known', async () => {
    const store = createMemoryStore({ entries: 2, budgets: 3 });
    for (const key of ['a', 'b', 'c']) assert.deepEqual(await store.spend(key, sendBudget, nowMs), { allowed: true });
    await assert.rejects(store.spend('d', sendBudget, nowMs), isUnavailable);
    await store.put('a', entryUntil(nowMs + minuteMs), nowMs);
    await store.put('b', entryUntil(nowMs + minuteMs), nowMs);
    await assert.rejects(store.put('c', entryUntil(nowMs + minuteMs), nowMs), isUnavailable);
    assert.equal(await store.take('a', ['right'], nowMs), 'payload');
    assert.deepEqual(await store.spend('a', sendBudget, nowMs + minuteMs), { allowed: true });
  });

  test('a budget is kept as long as it could change an answer, and no longer', async () => {
    const store = createMemoryStore({ entries: 1, budgets: 1 });
    await store.spend('a', sendBudget, nowMs);
    await assert.rejects(store.spend('b', sendBudget, nowMs + dayMs - 1), isUnavailable);
    assert.deepEqual(await store.spend('b', sendBudget, nowMs + dayMs + 1_000), { allowed: true });
  });

  test('a full store is searched for what has expired once a second at most', async () => {
    const store = createMemoryStore({ entries: 1, budgets: 1 });
    await store.put('a', entryUntil(nowMs + 10), nowMs);
    await assert.rejects(store.put('b', entryUntil(nowMs + minuteMs), nowMs), isUnavailable);
    await assert.rejects(store.put('b', entryUntil(nowMs + minuteMs), nowMs + 999), isUnavailable);
    await store.put('b', entryUntil(nowMs + minuteMs), nowMs + 1_000);
    assert.equal(await store.peek('b', 'right', nowMs + 1_000), 'payload');
  });

  test('a clock that is set back does not keep a full store full', async () => {
    const store = createMemoryStore({ entries: 1, budgets: 1 });
    await store.put('a', entryUntil(nowMs), nowMs - 1);
    await store.put('b', entryUntil(nowMs + 1), nowMs);
    await store.remove(['b']);
    const earlierMs = nowMs - dayMs;
    await store.put('c', entryUntil(earlierMs), earlierMs - 1);
    await store.put('d', entryUntil(nowMs), earlierMs);
    assert.equal(await store.peek('d', 'right', earlierMs), 'payload');
  });

  test('a budget whose only use is taken back makes room at once', async () => {
    const store = createMemoryStore({ entries: 1, budgets: 1 });
    await store.spend('a', sendBudget, nowMs);
    await assert.rejects(store.spend('b', sendBudget, nowMs), isUnavailable);
    await store.refund('a', nowMs);
    assert.deepEqual(await store.spend('b', sendBudget, nowMs), { allowed: true });
    assert.deepEqual(await store.spend('b', sendBudget, nowMs + 1), { allowed: false, retryAfterMs: minuteMs - 1 });
  });
});

function entryUntil(expiresAtMs: number): Entry {
  return { digest: 'right', payload: 'payload', expiresAtMs, tries: 5 };
}

function isUnavailable(error: unknown): boolean {
  return error instanceof AppError && error.code === 'temporarily_unavailable' && (error.retryAfterSeconds ?? 0) > 0;
}
