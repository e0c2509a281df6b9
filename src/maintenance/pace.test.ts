import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { choosePace, type Pace, type RowKind, sweepAtPace } from './pace.ts';

/** What happened, in its order: a batch of so many rows, or a rest. */
type Step = { batch: number } | { restMs: number };

/** Works off rows by a clock that goes on by what each batch costs, and by every rest. */
async function run(
  rows: number,
  pace: Pace,
  {
    costMs,
    kind = 'rows',
    closesAfter = Number.POSITIVE_INFINITY,
  }: { costMs(batch: number): number; kind?: RowKind; closesAfter?: number },
): Promise<{ steps: Step[]; removed: number; left: number; endedAtMs: number }> {
  const steps: Step[] = [];
  let nowMs = 1_000;
  let left = rows;
  const removed = await sweepAtPace(
    async (batch) => {
      const count = Math.min(batch, left);
      left -= count;
      nowMs += costMs(count);
      steps.push({ batch });
      return count;
    },
    {
      pace,
      kind,
      now: () => nowMs,
      rest: async (restMs) => {
        steps.push({ restMs });
        nowMs += restMs;
      },
      isClosing: () => steps.length >= closesAfter,
    },
  );
  return { steps, removed, left, endedAtMs: nowMs - 1_000 };
}

const batchesOf = (steps: readonly Step[]) => steps.flatMap((step) => ('batch' in step ? [step.batch] : []));
const restsOf = (steps: readonly Step[]) => steps.flatMap((step) => ('restMs' in step ? [step.restMs] : []));

describe('the pace of a chore', () => {
  const pace: Pace = { batchTargetMs: 2, restPerWork: 10 };

  test('it goes on until a batch finds less than it might have removed, with a rest between any two', async () => {
    const { steps, removed, left } = await run(1_100, pace, { costMs: () => 2 });
    assert.deepEqual(steps, [{ batch: 500 }, { restMs: 20 }, { batch: 500 }, { restMs: 20 }, { batch: 500 }]);
    assert.deepEqual([removed, left], [1_100, 0]);
  });

  test('where nothing has expired there is one look and no rest', async () => {
    assert.deepEqual((await run(0, pace, { costMs: () => 1 })).steps, [{ batch: 500 }]);
  });

  test('a batch grows while it is quicker than its target, to 2,000 rows and no more', async () => {
    const { steps } = await run(20_000, pace, { costMs: () => 0.1 });
    assert.deepEqual(batchesOf(steps).slice(0, 5), [500, 1_000, 2_000, 2_000, 2_000]);
    assert.equal(Math.max(...batchesOf(steps)), 2_000);
  });

  test('a batch shrinks when it is slower, to 500 rows and no less', async () => {
    let isSlow = false;
    const { steps } = await run(20_000, pace, {
      costMs: (count) => {
        isSlow ||= count === 2_000;
        return isSlow ? 20 : 0.1;
      },
    });
    const batches = batchesOf(steps);
    const firstLarge = batches.indexOf(2_000);
    assert.deepEqual(batches.slice(firstLarge, firstLarge + 5), [2_000, 1_000, 500, 500, 500]);
  });

  test('of audit events a batch may be as small as one seal', async () => {
    const { steps } = await run(1_000, pace, { costMs: () => 20, kind: 'events' });
    assert.deepEqual(new Set(batchesOf(steps)), new Set([200]));
  });

  test('the rest is in proportion to the batch, and never longer than three seconds', async () => {
    const restAfter = async (costMs: number) => restsOf((await run(600, pace, { costMs: () => costMs })).steps)[0];
    assert.deepEqual([await restAfter(0), await restAfter(1), await restAfter(299)], [0, 10, 2_990]);
    assert.deepEqual([await restAfter(301), await restAfter(30_000)], [3_000, 3_000]);
  });

  test('after audit events it is never longer than twelve seconds', async () => {
    const { steps } = await run(450, pace, { costMs: () => 2_000, kind: 'events' });
    assert.deepEqual(restsOf(steps), [12_000, 12_000]);
  });

  test('a chore ends after a minute and leaves the rest to its next turn', async () => {
    const { removed, left, endedAtMs } = await run(10_000_000, pace, { costMs: () => 2 });
    assert.ok(endedAtMs >= 60_000 && endedAtMs < 60_100, `it ended after ${endedAtMs} ms`);
    assert.equal(removed + left, 10_000_000);
    assert.ok(left > 0);
  });

  test('one that is to stop removes nothing more', async () => {
    const { steps, removed } = await run(2_000, pace, { costMs: () => 2, closesAfter: 2 });
    assert.deepEqual([steps.length, removed], [2, 500]);
  });

  test('on SQLite, where a batch stops everybody, it takes less than a hundredth of the time and of events still less, elsewhere a twentieth', () => {
    const shareOn = (...of: Parameters<typeof choosePace>) => 1 / (1 + choosePace(...of).restPerWork);
    assert.deepEqual([shareOn('sqlite', 'rows'), shareOn('sqlite', 'events')], [1 / 150, 1 / 800]);
    assert.deepEqual([shareOn('postgres', 'rows'), shareOn('postgres', 'events')], [1 / 20, 1 / 20]);
  });
});
