import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { dayMs, ephemeralBackends, hourMs, minuteMs, newKey, sendBudget, useStore } from '../../test/ephemeral.ts';
import type { Entry, Window } from './store.ts';

for (const backend of ephemeralBackends) {
  const store = useStore(backend);

  describe(`short-lived entries (${backend.name})`, () => {
    const nowMs = Date.now();

    async function putEntry(entry: Partial<Entry> = {}): Promise<string> {
      const key = newKey();
      await store().put(key, { digest: 'right', payload: 'payload', expiresAtMs: nowMs + minuteMs, ...entry }, nowMs);
      return key;
    }

    test('an entry is given to the right digest once, and peeking does not use it up', async () => {
      const key = await putEntry();
      assert.equal(await store().peek(key, 'right', nowMs), 'payload');
      assert.equal(await store().peek(key, 'wrong', nowMs), undefined);
      assert.equal(await store().take(key, ['wrong', 'right'], nowMs), 'payload');
      assert.equal(await store().take(key, ['right'], nowMs), undefined);
      assert.equal(await store().peek(key, 'right', nowMs), undefined);
    });

    test('a key that was never put gives nothing', async () => {
      const key = newKey();
      assert.equal(await store().peek(key, 'right', nowMs), undefined);
      assert.equal(await store().take(key, ['right'], nowMs), undefined);
      assert.equal(await store().take(key, [], nowMs), undefined);
    });

    test('any text survives as payload, also text outside ASCII and the empty text', async () => {
      for (const payload of ['', '0', 'Grüße 🔑\0\r\n"', 'x'.repeat(10_000)]) {
        assert.equal(await store().take(await putEntry({ payload }), ['right'], nowMs), payload);
      }
    });

    test('the fifth wrong try ends an entry that has five', async () => {
      const key = await putEntry({ tries: 5 });
      for (let tried = 0; tried < 4; tried += 1) assert.equal(await store().take(key, ['wrong'], nowMs), undefined);
      assert.equal(await store().peek(key, 'right', nowMs), 'payload');
      assert.equal(await store().take(key, ['wrong'], nowMs), undefined);
      assert.equal(await store().take(key, ['right'], nowMs), undefined);
    });

    test('the last try can be the right one, several digests are one try, and peeking is none', async () => {
      const key = await putEntry({ tries: 5 });
      for (let tried = 0; tried < 4; tried += 1) await store().take(key, ['wrong', 'wrong too'], nowMs);
      for (let peeked = 0; peeked < 20; peeked += 1) await store().peek(key, 'wrong', nowMs);
      assert.equal(await store().take(key, ['right'], nowMs), 'payload');
    });

    test('of 50 parallel guesses at most five are compared', async () => {
      for (const [position, expected] of [
        [0, 1],
        [4, 1],
        [5, 0],
        [49, 0],
      ] as const) {
        const key = await putEntry({ tries: 5 });
        const guesses = Array.from({ length: 50 }, (_, index) => (index === position ? 'right' : `wrong ${index}`));
        const answers = await Promise.all(guesses.map((guess) => store().take(key, [guess], nowMs)));
        const given = answers.filter((answer) => answer !== undefined).length;
        assert.equal(given, expected, `the right guess was number ${position + 1}`);
        assert.equal(await store().take(key, ['right'], nowMs), undefined, 'nothing is left afterwards');
      }
    });

    test('of 50 parallel takes with the right digest exactly one gets the payload', async () => {
      for (const entry of [{ tries: 5 }, { tries: 50 }, {}]) {
        const key = await putEntry(entry);
        const answers = await Promise.all(Array.from({ length: 50 }, () => store().take(key, ['right'], nowMs)));
        assert.deepEqual(
          answers.filter((answer) => answer !== undefined),
          ['payload'],
        );
      }
    });

    test('an entry without a limit is never counted', async () => {
      const key = await putEntry();
      for (let tried = 0; tried < 100; tried += 1) await store().take(key, ['wrong'], nowMs);
      assert.equal(await store().take(key, ['right'], nowMs), 'payload');
    });

    test('putting again replaces digest, payload, tries and expiry', async () => {
      const key = await putEntry({ tries: 2 });
      await store().take(key, ['wrong'], nowMs);
      const next = { digest: 'new', payload: 'second', expiresAtMs: nowMs + 2 * minuteMs, tries: 2 };
      await store().put(key, next, nowMs);
      const laterMs = nowMs + minuteMs + 1;
      assert.equal(await store().take(key, ['right'], laterMs), undefined, 'the old digest is worth nothing');
      assert.equal(await store().take(key, ['new'], laterMs), 'second', 'the new entry had two tries of its own');
    });

    test('an entry put without a limit over one that had a limit is not counted', async () => {
      const key = await putEntry({ tries: 1 });
      await store().put(key, { digest: 'new', payload: 'second', expiresAtMs: nowMs + minuteMs }, nowMs);
      for (let tried = 0; tried < 10; tried += 1) await store().take(key, ['wrong'], nowMs);
      assert.equal(await store().take(key, ['new'], nowMs), 'second');
    });

    test('an entry lives until the millisecond before its expiry, by the time that is passed', async () => {
      const expiresAtMs = nowMs + 5 * minuteMs;
      const key = await putEntry({ expiresAtMs, tries: 5 });
      assert.equal(await store().peek(key, 'right', expiresAtMs), undefined);
      assert.equal(await store().take(key, ['right'], expiresAtMs), undefined);
      assert.equal(await store().peek(key, 'right', expiresAtMs - 1), 'payload');
      assert.equal(await store().take(key, ['right'], expiresAtMs - 1), 'payload');
    });

    test('removing takes the named entries, whether they are there or not, and no other', async () => {
      const [first, second, kept] = await Promise.all([putEntry(), putEntry(), putEntry()]);
      await store().remove([first, second, newKey()]);
      await store().remove([]);
      assert.equal(await store().peek(first, 'right', nowMs), undefined);
      assert.equal(await store().peek(second, 'right', nowMs), undefined);
      assert.equal(await store().peek(kept, 'right', nowMs), 'payload');
    });

    test('collecting takes nothing that is still alive', async () => {
      const key = await putEntry({ tries: 5 });
      await store().spend(key.replace('key', 'budget'), sendBudget, nowMs);
      await store().collect(nowMs + minuteMs - 1);
      assert.equal(await store().peek(key, 'right', nowMs), 'payload');
      assert.equal((await store().spend(key.replace('key', 'budget'), sendBudget, nowMs)).allowed, false);
    });
  });

  describe(`budgets of uses (${backend.name})`, () => {
    const startMs = Date.now();

    test('whatever the times, uses and refunds are counted as a list of times would be', async () => {
      const gapMs = fc.oneof(
        fc.constantFrom(0, 1, minuteMs - 1, minuteMs, hourMs - 1, hourMs, dayMs - 1, dayMs),
        fc.integer({ min: 0, max: 3 * minuteMs }),
        fc.integer({ min: 0, max: dayMs }),
      );
      const refundOf = fc.option(fc.nat({ max: 12 }), { freq: 4, nil: undefined });
      const steps = fc.array(fc.record({ gapMs, refundOf }), { maxLength: 40, size: 'max' });
      await fc.assert(
        fc.asyncProperty(steps, async (sequence) => {
          const key = newKey();
          const times: number[] = [];
          let nowMs = startMs;
          for (const step of sequence) {
            nowMs += step.gapMs;
            const spent = await store().spend(key, sendBudget, nowMs);
            const retryAfterMs = expectedWait(sendBudget, times, nowMs);
            assert.deepEqual(spent, retryAfterMs === 0 ? { allowed: true } : { allowed: false, retryAfterMs });
            if (retryAfterMs === 0) times.push(nowMs);
            const refunded = step.refundOf === undefined ? undefined : times[step.refundOf];
            if (refunded !== undefined) {
              await store().refund(key, refunded);
              times.splice(times.lastIndexOf(refunded), 1);
            }
          }
        }),
        { numRuns: 60 },
      );
    });

    test('a refused use records nothing: the wait only gets shorter', async () => {
      const key = newKey();
      assert.deepEqual(await store().spend(key, sendBudget, startMs), { allowed: true });
      for (const passedMs of [0, 1, 30_000, minuteMs - 1]) {
        const expected = { allowed: false, retryAfterMs: minuteMs - passedMs };
        assert.deepEqual(await store().spend(key, sendBudget, startMs + passedMs), expected);
      }
      assert.deepEqual(await store().spend(key, sendBudget, startMs + minuteMs), { allowed: true });
    });

    test('a refund gives back one use of that time and nothing else', async () => {
      const key = newKey();
      const windows = [{ uses: 2, perMs: minuteMs }];
      await store().refund(key, startMs);
      await store().spend(key, windows, startMs);
      await store().spend(key, windows, startMs);
      await store().refund(key, startMs + 1);
      assert.deepEqual(await store().spend(key, windows, startMs), { allowed: false, retryAfterMs: minuteMs });
      await store().refund(key, startMs);
      assert.deepEqual(await store().spend(key, windows, startMs), { allowed: true });
      assert.deepEqual(await store().spend(key, windows, startMs), { allowed: false, retryAfterMs: minuteMs });
    });

    test('of 50 parallel uses exactly as many are allowed as there is room for', async () => {
      const key = newKey();
      const windows = [
        { uses: 7, perMs: minuteMs },
        { uses: 20, perMs: hourMs },
      ];
      for (const [round, expected] of [7, 7, 6, 0].entries()) {
        const nowMs = startMs + round * minuteMs;
        const answers = await Promise.all(Array.from({ length: 50 }, () => store().spend(key, windows, nowMs)));
        assert.equal(answers.filter(({ allowed }) => allowed).length, expected);
      }
    });

    test('the budgets of two keys have nothing to do with each other', async () => {
      const [one, other] = [newKey(), newKey()];
      assert.deepEqual(await store().spend(one, sendBudget, startMs), { allowed: true });
      assert.deepEqual(await store().spend(other, sendBudget, startMs), { allowed: true });
    });
  });
}

/** The shortest wait after which every window has room, found by trying each moment at which a use is over. */
function expectedWait(windows: readonly Window[], times: readonly number[], nowMs: number): number {
  const hasRoomAt = (atMs: number) =>
    windows.every(({ uses, perMs }) => times.filter((time) => time + perMs > atMs).length < uses);
  const ends = windows.flatMap(({ perMs }) => times.map((time) => time + perMs));
  const moments = [nowMs, ...ends.filter((end) => end > nowMs)].sort((a, b) => a - b);
  return (moments.find(hasRoomAt) ?? Number.NaN) - nowMs;
}
