import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { answerWithin, waitUntil } from './deadline.ts';

const never = new Promise<never>(() => {});
// A timer of Node's is early nearly always where its length is no whole number.
const limitMs = 10.6;
const turns = 20;

/** Begins at twenty moments within a millisecond, and returns the shortest time that it took. */
async function measureShortest(act: () => Promise<void>): Promise<number> {
  const times: number[] = [];
  for (let turn = 0; turn < turns; turn += 1) {
    await sleep(1);
    const startAtMs = performance.now() + turn / turns;
    while (performance.now() < startAtMs);
    const startedAtMs = performance.now();
    await act();
    times.push(performance.now() - startedAtMs);
  }
  return Math.min(...times);
}

describe('a limit of time', () => {
  test('is never over before its time', async () => {
    const tookMs = await measureShortest(() =>
      assert.rejects(answerWithin(limitMs, never), /^Error: no answer within 10\.6 ms$/),
    );
    assert.ok(tookMs >= limitMs, `${tookMs} ms`);
  });

  test('gives what comes in time, and what is wrong with it', async () => {
    assert.equal(await answerWithin(1_000, Promise.resolve('answer')), 'answer');
    await assert.rejects(answerWithin(1_000, Promise.reject(new Error('mine'))), /^Error: mine$/);
  });
});

test('a wait until a moment is never over before it, and none until one that has passed', async () => {
  const tookMs = await measureShortest(() => waitUntil(performance.now() + limitMs));
  assert.ok(tookMs >= limitMs, `${tookMs} ms`);
  await waitUntil(performance.now() - limitMs);
});
