/** How quickly a chore may work off its rows, so that those who wait for an answer do not notice. */
export type Pace = {
  /** What a batch should take; the next one is made larger or smaller by what the last one took. */
  batchTargetMs: number;
  /** How long the chore rests after a batch, as a multiple of what it took. */
  restPerWork: number;
};

// On SQLite nobody is answered while a batch is removed, and its commit waits for the disk. So it rests until fewer
// than one request in a hundred can have met it: what they take at the 99th percentile stays under twice what it is
// without (`npm run bench:cleanup`). The target bounds what that one waits for.
const sqlitePace: Pace = { batchTargetMs: 4, restPerWork: 149 };
// A seal of audit events cannot be removed in part and touches pages in every index: what takes longer must be rarer.
const sqliteEventPace: Pace = { batchTargetMs: 4, restPerWork: 799 };
// PostgreSQL answers others meanwhile, on the same processors and disk; most of the time is theirs alone.
const postgresPace: Pace = { batchTargetMs: 10, restPerWork: 19 };
const smallestBatch = 500;
// A row of theirs has more indexes, and they go by whole seals of so many.
const smallestEventBatch = 200;
const largestBatch = 2_000;
// So that a disk or a machine that stood still for once does not end the chore.
const maxRestMs = 3_000;
const maxEventRestMs = 12_000;
// Well under the lease of the chores. A backlog that takes longer is left to the next turns.
const sweepLimitMs = 60_000;

/** Of which kind the rows are that a chore removes. */
export type RowKind = 'rows' | 'events';

/** Chooses the pace for a database and what is removed from it. */
export function choosePace(dialect: 'sqlite' | 'postgres', kind: RowKind): Pace {
  if (dialect === 'postgres') return postgresPace;
  return kind === 'events' ? sqliteEventPace : sqlitePace;
}

/** What a sweep at a pace needs of its surroundings. */
type Surroundings = {
  pace: Pace;
  kind: RowKind;
  /** Milliseconds of a clock that never goes back. */
  now(): number;
  /** Lets others go on, for so long; sooner when the sweep is to stop. */
  rest(ms: number): Promise<void>;
  isClosing(): boolean;
};

/**
 * Removes in batches until one finds fewer rows than it might have removed, and returns how many went. Between two
 * batches everybody else has their turn.
 */
export async function sweepAtPace(
  sweep: (batch: number) => Promise<number>,
  { pace, kind, now, rest, isClosing }: Surroundings,
): Promise<number> {
  const endsAtMs = now() + sweepLimitMs;
  const [smallest, longestRestMs] =
    kind === 'events' ? [smallestEventBatch, maxEventRestMs] : [smallestBatch, maxRestMs];
  let batch = smallest;
  let removed = 0;
  while (!isClosing() && now() < endsAtMs) {
    const startedAtMs = now();
    const count = await sweep(batch);
    removed += count;
    if (count < batch) break;
    const tookMs = now() - startedAtMs;
    batch = Math.max(smallest, nextBatch(batch, tookMs, pace));
    await rest(Math.min(longestRestMs, tookMs * pace.restPerWork));
  }
  return removed;
}

/** At most twice or half of the last one: what one batch took says little. */
function nextBatch(batch: number, tookMs: number, { batchTargetMs }: Pace): number {
  const factor = Math.min(2, Math.max(0.5, batchTargetMs / tookMs));
  return Math.min(largestBatch, Math.round(batch * factor));
}
