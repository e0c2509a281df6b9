import type { DetailsOf } from '../audit/events.ts';
import { recordEvent } from '../audit/flow.ts';
import { inTransaction } from '../db/database.ts';
import type { Deps } from '../deps.ts';
import { AppError } from '../errors.ts';
import { type Attempt, type SuspendedOwner, suspendIfSpent } from '../guessing/flow.ts';
import type { RequestContext } from '../request-context.ts';
import { lockUser } from './store.ts';

/** Where a password was asked for. */
type PasswordUse = 'password' | 'reauthentication' | 'password_change';

type RefusedPassword = { owner: SuspendedOwner | undefined; attempt: Attempt; use: PasswordUse };

/** What a refusal is written as. A login proves nobody; elsewhere the session says who asks. */
type Refusal =
  | { type: 'login.failed'; details: DetailsOf<'login.failed'>; isProved: false }
  | {
      type: 'reauthentication.refused' | 'password_change.refused';
      details: DetailsOf<'reauthentication.refused'>;
      isProved: true;
    };

function describeRefusal(use: PasswordUse, { isThrottled, isSuspended }: Attempt): Refusal {
  const attempt = isThrottled ? 'throttled' : isSuspended ? 'suspended' : 'compared';
  if (use === 'password') return { type: 'login.failed', details: { method: 'password', attempt }, isProved: false };
  const type = use === 'reauthentication' ? 'reauthentication.refused' : 'password_change.refused';
  return { type, details: { attempt }, isProved: true };
}

/**
 * Refuses a password, wherever it was asked for: it is the same guess at the same password, and is written in the
 * same place. Where there is no account the event has no user: what was typed could be a password in the wrong field.
 */
export async function refusePassword(deps: Deps, refused: RefusedPassword, context: RequestContext): Promise<never> {
  const { owner, attempt, use } = refused;
  if (attempt.check.unreadable) {
    // The owner has to reset it, or the operator to give the secret back.
    const reason = 'a stored password hash cannot be read: its secret is not configured, or it is damaged';
    deps.log.warn({ user_id: owner?.id }, reason);
  }
  const hasMail = await inTransaction(deps.db, async (tx) => {
    // An account deleted while its password was checked leaves nothing of who tried. The look-up is made for an
    // unknown address too, so that the work is the same.
    const isThere = await lockUser(tx, owner?.id ?? '');
    const subject = isThere ? (owner?.id ?? null) : null;
    const { isProved, ...refusal } = describeRefusal(use, attempt);
    await recordEvent(
      tx,
      { ...refusal, userId: subject, actorId: isProved ? subject : null },
      context,
      deps.clock.now(),
    );
    return suspendIfSpent(deps, tx, attempt, isThere ? owner : undefined, context);
  });
  if (hasMail) deps.outbox.wake();
  countRefusal(deps, refused);
  throw new AppError('invalid_credentials');
}

/** Tells the operator, and nobody else, what the refusal was for. */
function countRefusal({ metrics }: Deps, { owner, attempt, use }: RefusedPassword): void {
  const { check, isThrottled, isSuspended, lane } = attempt;
  const isHeldUp = isThrottled || isSuspended;
  if (isHeldUp) metrics.countThrottled(lane.kind, isThrottled ? 'throttled' : 'suspended');
  const outcome = check.unreadable ? 'unreadable_hash' : 'wrong_password';
  if (use !== 'password') metrics.countConfirmation(use, isHeldUp ? 'throttled' : outcome);
  else if (owner === undefined) metrics.countLogin('password', 'unknown_address');
  else if (isHeldUp) metrics.countLogin('password', 'throttled');
  else metrics.countLogin('password', check.matches ? 'inactive_account' : outcome);
}

/** Refuses the right proof of an address whose account is disabled or gone. */
export async function refuseProof(deps: Deps, userId: string | null, context: RequestContext): Promise<never> {
  await inTransaction(deps.db, async (tx) => {
    const subject = (await lockUser(tx, userId ?? '')) ? userId : null;
    const event = {
      type: 'login.failed',
      userId: subject,
      actorId: null,
      details: { method: 'code', attempt: 'compared' },
    } as const;
    await recordEvent(tx, event, context, deps.clock.now());
  });
  throw new AppError('invalid_verification_token');
}
