import { recordEvent } from '../audit/flow.ts';
import { inTransaction } from '../db/database.ts';
import type { Deps } from '../deps.ts';
import { AppError } from '../errors.ts';
import { type Attempt, type SuspendedOwner, suspendIfSpent } from '../guessing/flow.ts';
import type { RequestContext } from '../request-context.ts';
import { lockUser } from './store.ts';

/** Where a password was asked for. */
type PasswordUse = 'password' | 'reauthentication' | 'password_change';

/**
 * Refuses a password, wherever it was asked for: it is the same guess at the same password, and is written in the
 * same place. Where there is no account the event has no user: what was typed could be a password in the wrong field.
 */
export async function refusePassword(
  deps: Deps,
  refused: { owner: SuspendedOwner | undefined; attempt: Attempt; use: PasswordUse },
  context: RequestContext,
): Promise<never> {
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
    const details = {
      method: use,
      ...(attempt.isThrottled && { throttled: true }),
      ...(attempt.isSuspended && { suspended: true }),
    };
    const event = { type: 'login.failed', userId: isThere ? (owner?.id ?? null) : null, details } as const;
    await recordEvent(tx, event, context, deps.clock.now());
    return suspendIfSpent(deps, tx, attempt, isThere ? owner : undefined, context);
  });
  if (hasMail) deps.outbox.wake();
  throw new AppError('invalid_credentials');
}
