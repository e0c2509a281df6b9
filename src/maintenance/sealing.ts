import { setImmediate as nextTurn } from 'node:timers/promises';
import { findChainHead, hasEventsToSeal, sealNextBatch } from '../audit/sealing.ts';
import { newId } from '../crypto/ids.ts';
import { isUniqueViolation } from '../db/failures.ts';
import type { Deps } from '../deps.ts';
import { takeLease } from './store.ts';

// What is not sealed yet can be changed without a trace, so soon; and not at once, so that a seal holds several events.
const everyMs = 5_000;
// Several turns: an instance that died is replaced soon. That two seal at once is prevented by the seals themselves.
const leaseMs = 20_000;
// A backlog that is larger than this, as after an upgrade, is left to the next turns.
const maxBatches = 50;
const tellHeadEveryMs = 60 * 60 * 1000;
// A database that is away is told of by everybody who needs it.
const complainEveryMs = 60_000;

/** Seals on a timer what was written to the audit trail. */
export type Sealer = {
  start(): void;
  /** Seals what waits, if no other instance does. Returns how many events, or undefined when it was not our turn. */
  runOnce(): Promise<number | undefined>;
  /** Writes the newest seal to the log, at most once an hour. */
  tellHead(): Promise<void>;
  /** Stops the timer and waits for the turn under way. */
  close(): Promise<void>;
};

/** Creates the sealer. Of several instances on one database, one works and the others look on. */
export function createSealer(deps: Deps): Sealer {
  const lease = { name: 'audit-sealing', holder: newId() };
  let timer: NodeJS.Timeout | undefined;
  let running: Promise<void> | undefined;
  let isClosing = false;
  let toldHeadAtMs = Number.NEGATIVE_INFINITY;
  let complainedAtMs = Number.NEGATIVE_INFINITY;

  async function runOnce(): Promise<number | undefined> {
    let sealed = 0;
    for (let batches = 0; batches < maxBatches && !isClosing; batches += 1) {
      if (!(await hasEventsToSeal(deps))) break;
      const nowMs = deps.clock.now();
      if (!(await takeLease(deps.db, { ...lease, nowMs, untilMs: nowMs + leaseMs }))) return sealed || undefined;
      const count = await sealUnlessOvertaken();
      // What waits is being blanked just now, or another instance has sealed it.
      if (count === 0) break;
      sealed += count;
      // Requests that wait for the connection go first.
      await nextTurn();
    }
    return sealed;
  }

  async function sealUnlessOvertaken(): Promise<number> {
    try {
      return await sealNextBatch(deps);
    } catch (error) {
      if (isUniqueViolation(error)) return 0;
      throw error;
    }
  }

  /** The log is kept elsewhere: with a head from it a chain that was cut off at its newest end is found out. */
  async function tellHead(): Promise<void> {
    if (performance.now() - toldHeadAtMs < tellHeadEveryMs) return;
    const head = await findChainHead(deps);
    if (head === undefined) return;
    toldHeadAtMs = performance.now();
    deps.log.info({ audit_head: `${head.seq}:${head.digest}` }, 'this is the newest seal of the audit trail');
    if (head.authenticity === 'genuine') return;
    const reason =
      head.authenticity === 'forged'
        ? 'it was not made by this service: run "audit verify"'
        : 'it was made with a SECRET_KEY that is not given any more; the next seal vouches for it';
    deps.log.error({ audit_head: `${head.seq}:${head.digest}` }, `the newest seal of the audit trail: ${reason}`);
  }

  function complain(error: unknown): void {
    if (performance.now() - complainedAtMs < complainEveryMs) return;
    complainedAtMs = performance.now();
    deps.log.warn({ err: error }, 'sealing the audit trail failed and will be tried again');
  }

  function runInBackground(): void {
    // A turn that takes longer than the timer goes on alone.
    running ??= tellHead()
      .then(runOnce)
      .then(() => {}, complain)
      .finally(() => {
        running = undefined;
      });
  }

  return {
    start() {
      timer ??= setInterval(runInBackground, everyMs).unref();
    },
    runOnce,
    tellHead,
    async close() {
      isClosing = true;
      clearInterval(timer);
      await running;
    },
  };
}
