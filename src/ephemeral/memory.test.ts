import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { hourMs, isUnavailable, minuteMs } from '../../test/ephemeral.ts';
import { createMemoryStore } from './memory.ts';
import type { Entry } from './store.ts';

describe('the memory store when it is full', () => {
  const maxKeys = 100_000;
  const nowMs = Date.now();
  const entry: Entry = { digest: 'right', payload: 'payload', expiresAtMs: nowMs + minuteMs, tries: 5 };

  test('it refuses a new entry, serves the entries that it holds, and takes new ones when some expired', async () => {
    const store = createMemoryStore();
    for (let index = 0; index < maxKeys; index += 1) await store.put(`entry ${index}`, entry, nowMs);
    await assert.rejects(store.put('one more', entry, nowMs), isUnavailable);
    assert.equal(await store.peek('one more', 'right', nowMs), undefined);
    await store.put('entry 0', { ...entry, payload: 'replaced' }, nowMs);
    assert.equal(await store.take('entry 0', ['right'], nowMs), 'replaced');
    assert.equal(await store.take('entry 1', ['right'], nowMs), 'payload');
    await store.put('one more', { ...entry, expiresAtMs: nowMs + hourMs }, nowMs);
    await store.put('and another', entry, nowMs);
    await assert.rejects(store.put('too many', entry, nowMs), isUnavailable);
    await store.put('too many', entry, entry.expiresAtMs);
    assert.equal(await store.peek('one more', 'right', entry.expiresAtMs), 'payload', 'only the expired made room');
  });

  test('it refuses a new budget, counts on with those that it holds, and takes new ones when some are over', async () => {
    const store = createMemoryStore({ entries: maxKeys, budgets: maxKeys });
    const windows = [{ uses: 2, perMs: minuteMs }];
    for (let index = 0; index < maxKeys; index += 1) await store.spend(`budget ${index}`, windows, nowMs);
    await assert.rejects(store.spend('one more', windows, nowMs), isUnavailable);
    assert.deepEqual(await store.spend('budget 0', windows, nowMs), { allowed: true });
    assert.deepEqual(await store.spend('budget 0', windows, nowMs), { allowed: false, retryAfterMs: minuteMs });
    assert.deepEqual(await store.spend('one more', windows, nowMs + minuteMs), { allowed: true });
  });
});

describe('the memory store over time', () => {
  test('collecting frees the room of what has expired', async () => {
    const store = createMemoryStore();
    const entry = { digest: 'right', payload: 'payload', expiresAtMs: 2 };
    for (let index = 0; index < 100_000; index += 1) await store.put(`entry ${index}`, entry, 1);
    await assert.rejects(store.put('one more', entry, 1), isUnavailable);
    await store.collect(2);
    await store.put('one more', entry, 1);
  });
});
