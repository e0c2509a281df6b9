import assert from 'node:assert/strict';
import { getPriority } from 'node:os';
import { describe, type TestContext, test } from 'node:test';
import { verifySync } from '@node-rs/bcrypt';
import { listNiceness } from '../../test/processes.ts';
import { createHashPool, HashAbandonedError, HashQueueFullError } from './hash-pool.ts';
import type { HashTask } from './hash-worker.ts';

// 2^9 rounds: some 20 ms, long enough that a task started now still runs when the next line is reached.
const shortCost = 9;
// 2^12 rounds: some 200 ms.
const longCost = 12;
// 2^18 rounds: longer than the time allowed to any test here, so that a test in which it runs fails.
const endlessCost = 18;

function hashTask(cost: number, input = 'a password'): HashTask {
  return { kind: 'hash', scheme: { name: 'bcrypt', cost }, input };
}

function startPool(t: TestContext, options: Parameters<typeof createHashPool>[0]) {
  const pool = createHashPool(options);
  t.after(() => pool.close());
  return pool;
}

describe('the pool of hash threads', { timeout: 30_000 }, () => {
  test('a task runs and its result comes back', async (t) => {
    const pool = startPool(t, { threads: 1, maxWaiting: 1 });
    const encoded = await pool.run(hashTask(4));
    assert.ok(typeof encoded === 'string' && verifySync('a password', encoded));
    assert.equal(await pool.run({ kind: 'verify', encoded, input: 'a password' }), true);
    assert.equal(await pool.run({ kind: 'verify', encoded, input: 'another password' }), false);
  });

  test('a full queue refuses at once and loses none of those that wait', async (t) => {
    const pool = startPool(t, { threads: 1, maxWaiting: 2 });
    let finished = 0;
    const accepted = [1, 2, 3].map(() =>
      pool.run(hashTask(longCost)).then(() => {
        finished += 1;
      }),
    );
    assert.equal(pool.waiting(), 2);
    for (const _attempt of [1, 2, 3]) {
      await assert.rejects(pool.run(hashTask(4)), HashQueueFullError);
      await assert.rejects(pool.run(hashTask(4), new AbortController().signal), HashQueueFullError);
    }
    assert.equal(finished, 0, 'the refusals came before the first task was done');
    assert.equal(pool.waiting(), 2);
    await Promise.all(accepted);
    assert.equal(finished, 3);
    assert.equal(pool.waiting(), 0);
    assert.ok(await pool.run(hashTask(4)), 'the pool takes tasks again');
  });

  test('as many tasks run side by side as there are threads, and only then does one wait', async (t) => {
    const pool = startPool(t, { threads: 3, maxWaiting: 1 });
    const running = [1, 2, 3].map(() => pool.run(hashTask(shortCost)));
    assert.equal(pool.waiting(), 0);
    const waiter = pool.run(hashTask(4));
    assert.equal(pool.waiting(), 1);
    await assert.rejects(pool.run(hashTask(4)), HashQueueFullError);
    await Promise.all([...running, waiter]);
    assert.equal(pool.waiting(), 0);
  });

  test('whoever has waited for too long is refused, is not hashed for, and frees a place', async (t) => {
    const pool = startPool(t, { threads: 1, maxWaiting: 1, maxWaitMs: 20 });
    const running = pool.run(hashTask(longCost));
    await assert.rejects(pool.run(hashTask(endlessCost)), HashQueueFullError);
    assert.equal(pool.waiting(), 0);
    await running;
    assert.ok(await pool.run(hashTask(4)), 'the pool takes tasks again');
  });

  test('those that wait are served in the order in which they came', async (t) => {
    const pool = startPool(t, { threads: 1, maxWaiting: 20 });
    const order: number[] = [];
    const numbers = Array.from({ length: 20 }, (_, index) => index);
    await Promise.all(numbers.map((number) => pool.run(hashTask(4)).then(() => order.push(number))));
    assert.deepEqual(order, numbers);
  });

  test('a newcomer cannot overtake one that waits when a thread becomes free', async (t) => {
    const pool = startPool(t, { threads: 1, maxWaiting: 3 });
    const order: string[] = [];
    const newcomer: Promise<unknown>[] = [];
    const first = pool.run(hashTask(4)).then(() => {
      newcomer.push(pool.run(hashTask(4)).then(() => order.push('newcomer')));
    });
    const waiter = pool.run(hashTask(shortCost)).then(() => order.push('waiter'));
    await Promise.all([first, waiter]);
    await Promise.all(newcomer);
    assert.deepEqual(order, ['waiter', 'newcomer']);
  });

  test('a waiter that goes away frees its place and never runs', async (t) => {
    const pool = startPool(t, { threads: 1, maxWaiting: 2 });
    const leaving = new AbortController();
    const running = pool.run(hashTask(shortCost));
    const abandoned = pool.run(hashTask(endlessCost), leaving.signal);
    const waiter = pool.run(hashTask(4));
    await assert.rejects(pool.run(hashTask(4)), HashQueueFullError);
    leaving.abort();
    assert.equal(pool.waiting(), 1, 'the place is free at once');
    const successor = pool.run(hashTask(4));
    assert.equal(pool.waiting(), 2);
    await assert.rejects(abandoned, HashAbandonedError);
    await Promise.all([running, waiter, successor]);
  });

  test('one whose client had gone before it could wait takes no place', async (t) => {
    const pool = startPool(t, { threads: 1, maxWaiting: 1 });
    const running = pool.run(hashTask(shortCost));
    await assert.rejects(pool.run(hashTask(endlessCost), AbortSignal.abort()), HashAbandonedError);
    assert.equal(pool.waiting(), 0);
    await running;
  });

  test('an abort leaves a running task and the tasks of others alone', async (t) => {
    const pool = startPool(t, { threads: 1, maxWaiting: 2 });
    const [first, second] = [new AbortController(), new AbortController()];
    const running = pool.run(hashTask(shortCost, 'first'), first.signal);
    const waiter = pool.run(hashTask(shortCost, 'second'), second.signal);
    first.abort();
    const encoded = await running;
    assert.ok(typeof encoded === 'string' && verifySync('first', encoded));
    // The waiter runs by now: its own abort comes too late to matter.
    second.abort();
    const next = await waiter;
    assert.ok(typeof next === 'string' && verifySync('second', next));
  });

  test('a task that fails gives its thread to the next', async (t) => {
    const pool = startPool(t, { threads: 1, maxWaiting: 1 });
    const failing = pool.run({ kind: 'verify', encoded: '$argon2id$v=19$malformed', input: 'a password' });
    const waiter = pool.run(hashTask(4));
    await assert.rejects(failing);
    assert.ok(await waiter);
    assert.ok(await pool.run(hashTask(4)));
    assert.equal(pool.waiting(), 0);
  });
});

describe('the event loop while passwords are hashed', { timeout: 30_000 }, () => {
  test('timers go on firing', async (t) => {
    const pool = startPool(t, { threads: 1, maxWaiting: 1 });
    await pool.run(hashTask(4));
    let ticks = 0;
    const timer = setInterval(() => {
      ticks += 1;
    }, 1);
    const hashes = 4;
    for (let i = 0; i < hashes; i += 1) await pool.run(hashTask(longCost));
    clearInterval(timer);
    // On the event loop there would be one or two between two hashes; beside it there are some 200.
    assert.ok(ticks > hashes * 10, `${ticks} ticks`);
  });

  test('the threads have a lower priority than the event loop', { skip: process.platform !== 'linux' }, async (t) => {
    const before = listNiceness(process.pid);
    const pool = startPool(t, { threads: 2, maxWaiting: 0 });
    await Promise.all([pool.run(hashTask(longCost)), pool.run(hashTask(longCost))]);
    const after = listNiceness(process.pid);
    const started = [...after].filter(([thread]) => !before.has(thread)).map(([, niceness]) => niceness);
    assert.equal(started.filter((niceness) => niceness === 10).length, 2, `niceness of the new threads: ${started}`);
    assert.equal(after.get(process.pid), before.get(process.pid));
    assert.equal(after.get(process.pid), getPriority());
  });

  test('how far they stand back is what the pool was told', { skip: process.platform !== 'linux' }, async (t) => {
    const before = listNiceness(process.pid);
    const pool = startPool(t, { threads: 1, maxWaiting: 0, niceness: 15 });
    await pool.run(hashTask(longCost));
    const after = listNiceness(process.pid);
    const started = [...after].filter(([thread]) => !before.has(thread)).map(([, niceness]) => niceness);
    assert.equal(started.filter((niceness) => niceness === 15).length, 1, `niceness of the new threads: ${started}`);
  });
});
