import { setImmediate as nextTurn } from 'node:timers/promises';
import { erasePending } from '../audit/flow.ts';
import { expireEventsAfter } from '../audit/retention.ts';
import { newId } from '../crypto/ids.ts';
import type { Deps } from '../deps.ts';
import { rotateSigningKeys } from '../keys/rotation.ts';
import {
  type Sweep,
  sweepDevicesUnusedFor,
  sweepKeysRetiredFor,
  sweepOutbox,
  sweepPasswordFailures,
  sweepPendingEmailChanges,
  sweepSessions,
  takeLease,
} from './store.ts';

/** How often an instance looks whether it is its turn. */
const everyMs = 60_000;
// Two turns: an instance that died is replaced at the next look but one.
const leaseMs = 120_000;
// Small, so that SQLite's one handle is soon free again for requests.
const batchSize = 200;
// A backlog that is larger than this is left to the next turns.
const maxBatches = 500;
// Another instance may go on signing with a retired key until it has noticed.
const noticeMs = 60_000;
const deviceMemoryMs = 180 * 24 * 60 * 60 * 1000;

/** Removes on a timer what has expired. */
export type Maintenance = {
  start(): void;
  /** Sweeps once if no other instance does. Returns how many rows went, or undefined when it was not our turn. */
  runOnce(): Promise<number | undefined>;
  /** Stops the timer and waits for the sweep under way. */
  close(): Promise<void>;
};

/** Creates the cleaner. Of several instances on one database, one works and the others look on. */
export function createMaintenance(deps: Deps): Maintenance {
  const lease = { name: 'maintenance', holder: newId() };
  const sweeps = listSweeps(deps);
  let timer: NodeJS.Timeout | undefined;
  let running: Promise<void> | undefined;
  let isClosing = false;

  async function runOnce(): Promise<number | undefined> {
    const nowMs = deps.clock.now();
    await deps.ephemeral.collect(nowMs);
    deps.throttle?.collect(nowMs);
    if (!(await takeLease(deps.db, { ...lease, nowMs, untilMs: nowMs + leaseMs }))) return undefined;
    let removed = 0;
    for (const sweep of sweeps) {
      removed += await sweepInBatches(sweep, nowMs);
      // Renewed between sweeps; one sweep is bounded well under the lease.
      await takeLease(deps.db, { ...lease, nowMs: deps.clock.now(), untilMs: deps.clock.now() + leaseMs });
    }
    await rotateSigningKeys(deps, { olderThanMs: deps.config.environment.SIGNING_KEY_MAX_AGE_SECONDS * 1000 });
    return removed;
  }

  async function sweepInBatches(sweep: Sweep, nowMs: number): Promise<number> {
    let removed = 0;
    for (let batches = 0; batches < maxBatches && !isClosing; batches += 1) {
      const count = await sweep(deps.db, nowMs, batchSize);
      removed += count;
      if (count < batchSize) break;
      // Requests that wait for the connection go first.
      await nextTurn();
    }
    return removed;
  }

  function runInBackground(): void {
    // A sweep that takes longer than the timer goes on alone.
    running ??= runOnce()
      .then(
        (removed) => {
          if (removed) deps.log.info({ removed }, 'removed rows that had expired');
        },
        (error: unknown) => deps.log.warn({ err: error }, 'removing expired rows failed and will be tried again'),
      )
      .finally(() => {
        running = undefined;
      });
  }

  return {
    start() {
      timer ??= setInterval(runInBackground, everyMs).unref();
    },
    runOnce,
    async close() {
      isClosing = true;
      clearInterval(timer);
      await running;
    },
  };
}

function listSweeps(deps: Deps): Sweep[] {
  const { accessTokens, config } = deps;
  const { AUDIT_RETENTION_DAYS } = config.environment;
  return [
    erasePending,
    expireEventsAfter(deps, AUDIT_RETENTION_DAYS),
    sweepSessions,
    sweepOutbox,
    sweepPendingEmailChanges,
    sweepPasswordFailures,
    sweepDevicesUnusedFor(deviceMemoryMs),
    sweepKeysRetiredFor(accessTokens.ttlSeconds * 1000 + noticeMs),
  ];
}
