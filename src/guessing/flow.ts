import { recordEvent } from '../audit/flow.ts';
import type { PasswordCheck } from '../crypto/passwords.ts';
import type { Db } from '../db/schema.ts';
import type { Deps } from '../deps.ts';
import { notice } from '../mail/outbox.ts';
import type { RequestContext } from '../request-context.ts';
import { chooseLane, type Lane, type Target } from './lane.ts';
import { countFailure, deleteFailures, deleteFailuresOfUser, suspendLane, takeFailureBack } from './store.ts';

/** A password that was tried and counted, with what came of it. */
export type Attempt = {
  /** True when the password is right and may be: not where it is throttled or its lane suspended. */
  matches: boolean;
  check: PasswordCheck;
  isThrottled: boolean;
  isSuspended: boolean;
  /** In a row, with this one. */
  failures: number;
  lane: Lane;
};

/** Whom a suspension is told to. */
export type SuspendedOwner = { id: string; email: string; locale: string | null; status: string };

/** A lane that has seen so many wrong passwords in a row takes none any more. */
const failuresMax = 100;
const memoryMs = 30 * 24 * 60 * 60 * 1000;
// Long after nobody tries any more; until then only a reset begins anew.
const suspensionMemoryMs = 365 * 24 * 60 * 60 * 1000;

/**
 * Tries a password: counts the attempt in its lane, then compares. Whether it may match or not, the work is the same:
 * one row is written and one hash computed, so that nobody can tell a lane that takes no password.
 */
export async function tryPassword(
  deps: Deps,
  target: Target,
  password: string,
  context: RequestContext,
): Promise<Attempt> {
  const lane = await chooseLane(deps, target, context);
  const isThrottled = !(await countInThrottle(deps, lane));
  const failures = await countInDatabase(deps, lane, isThrottled ? 0 : 1).catch(async (error: unknown) => {
    if (!isThrottled) await takeBackInThrottle(deps, lane);
    throw error;
  });
  const hash = target.owner?.password_hash ?? null;
  const check = await deps.passwords.verify(password, hash, context.signal).catch(async (error: unknown) => {
    // Nothing was compared: the queue is full, or the client has left it.
    if (!isThrottled) await takeBack(deps, lane);
    throw error;
  });
  const isSuspended = failures > failuresMax;
  const matches = check.matches && !isThrottled && !isSuspended;
  return { matches, check, isThrottled, isSuspended, failures, lane };
}

/**
 * Does what a right password opens, and begins the throttle of its lane anew; in its transaction `act` does the same
 * to the count in the database with `forgetFailures`. An act that fails was no wrong password and counts as none.
 */
export async function withRightPassword<T>(deps: Deps, { lane }: Attempt, act: () => Promise<T>): Promise<T> {
  let result: T;
  try {
    result = await act();
  } catch (error) {
    await takeBack(deps, lane);
    throw error;
  }
  await Promise.all(lane.throttles.map(({ key }) => deps.throttle?.clear(key)));
  return result;
}

/** Begins the count of a lane anew after a right password. Pass the transaction of what it opens. */
export async function forgetFailures(tx: Db, { lane }: Attempt): Promise<void> {
  await deleteFailures(tx, [lane.digest, ...lane.olderDigests]);
}

/** Forgets what was counted against an account. Pass the transaction of its deletion. */
export async function forgetFailuresOfUser(tx: Db, userId: string): Promise<void> {
  await deleteFailuresOfUser(tx, userId);
}

/**
 * Suspends the lane of a failed attempt when it was one too many, with an event and a mail to the owner, once. Pass the
 * transaction that records the failure, and wake the outbox after it when the answer is true. An address without an account costs the same work.
 */
export async function suspendIfSpent(
  deps: Deps,
  tx: Db,
  { lane, failures, isThrottled }: Attempt,
  owner: SuspendedOwner | undefined,
  context: RequestContext,
): Promise<boolean> {
  if (isThrottled || failures < failuresMax) return false;
  const nowMs = deps.clock.now();
  const expiresAtMs = nowMs + suspensionMemoryMs;
  if (!(await suspendLane(tx, { lane: lane.digest, failures: failuresMax, nowMs, expiresAtMs }))) return false;
  const userId = owner?.id ?? null;
  // Only a session says who tried.
  const actorId = lane.kind === 'session' ? userId : null;
  const details = { lane: lane.kind };
  await recordEvent(tx, { type: 'password.suspended', userId, actorId, details }, context, nowMs);
  const mail = notice(owner ?? nobody, { kind: 'password_suspended' }, nowMs);
  const isTold = owner?.status === 'active';
  await deps.outbox.enqueue(tx, { ...mail, userId: owner?.id ?? null, to: isTold ? mail.to : null });
  return true;
}

const nobody = { id: '', email: '', locale: null };

async function countInThrottle({ throttle, clock }: Deps, { throttles }: Lane): Promise<boolean> {
  if (throttle === undefined) return true;
  for (const [index, { key, rule }] of throttles.entries()) {
    if (await throttle.count(key, rule, clock.now())) continue;
    // An attempt that has to wait counts nowhere.
    for (const counted of throttles.slice(0, index)) await throttle.takeBack(counted.key);
    return false;
  }
  return true;
}

function countInDatabase(deps: Deps, { digest, olderDigests, userId }: Lane, by: 0 | 1): Promise<number> {
  const nowMs = deps.clock.now();
  const expiry = { expiresAtMs: nowMs + memoryMs, suspendedExpiresAtMs: nowMs + suspensionMemoryMs };
  return countFailure(deps.db, { lane: digest, olderLanes: olderDigests, userId, by, ...expiry });
}

async function takeBack(deps: Deps, lane: Lane): Promise<void> {
  await takeBackInThrottle(deps, lane);
  try {
    await takeFailureBack(deps.db, lane.digest);
  } catch (error) {
    // The database is away, which is what the caller hears of. One attempt too many is counted.
    deps.log.warn({ err: error }, 'an attempt that came to nothing could not be taken back');
  }
}

async function takeBackInThrottle({ throttle }: Deps, { throttles }: Lane): Promise<void> {
  await Promise.all(throttles.map(({ key }) => throttle?.takeBack(key)));
}
