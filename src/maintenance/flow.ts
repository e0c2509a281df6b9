import { setTimeout as sleep } from 'node:timers/promises';
import { erasePending } from '../audit/flow.ts';
import { expireEventsAfter } from '../audit/retention.ts';
import { newId } from '../crypto/ids.ts';
import type { Deps } from '../deps.ts';
import { rotateSigningKeys } from '../keys/rotation.ts';
import { choosePace, type RowKind, sweepAtPace } from './pace.ts';
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
  const closing = new AbortController();

  async function runOnce(): Promise<number | undefined> {
    const nowMs = deps.clock.now();
    await deps.ephemeral.collect(nowMs);
    deps.throttle?.collect(nowMs);
    if (!(await takeLease(deps.db, { ...lease, nowMs, untilMs: nowMs + leaseMs }))) return undefined;
    let removed = 0;
    for (const { kind, sweep } of sweeps) {
      removed += await sweepAll(sweep, kind, nowMs);
      // Renewed between sweeps; one sweep is bounded well under the lease.
      await takeLease(deps.db, { ...lease, nowMs: deps.clock.now(), untilMs: deps.clock.now() + leaseMs });
    }
    await rotateSigningKeys(deps, { olderThanMs: deps.config.environment.SIGNING_KEY_MAX_AGE_SECONDS * 1000 });
    return removed;
  }

  function sweepAll(sweep: Sweep, kind: RowKind, nowMs: number): Promise<number> {
    return sweepAtPace((batch) => sweep(deps.db, nowMs, batch), {
      pace: choosePace(deps.database.dialect, kind),
      kind,
      now: () => performance.now(),
      // A sweep that is to stop need not rest first.
      rest: (ms) => sleep(ms, undefined, { signal: closing.signal }).catch(() => {}),
      isClosing: () => closing.signal.aborted,
    });
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
      closing.abort();
      clearInterval(timer);
      await running;
    },
  };
}

function listSweeps(deps: Deps): { kind: RowKind; sweep: Sweep }[] {
  const { accessTokens, config } = deps;
  const { AUDIT_RETENTION_DAYS } = config.environment;
  const ofEvents = [erasePending, expireEventsAfter(deps, AUDIT_RETENTION_DAYS)];
  const ofRows = [
    sweepSessions,
    sweepOutbox,
    sweepPendingEmailChanges,
    sweepPasswordFailures,
    sweepDevicesUnusedFor(deviceMemoryMs),
    sweepKeysRetiredFor(accessTokens.ttlSeconds * 1000 + noticeMs),
  ];
  return [
    ...ofEvents.map((sweep) => ({ kind: 'events' as const, sweep })),
    ...ofRows.map((sweep) => ({ kind: 'rows' as const, sweep })),
  ];
}
