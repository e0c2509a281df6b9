import { recordEvent } from '../audit/flow.ts';
import type { PasswordCheck } from '../crypto/passwords.ts';
import { inTransaction } from '../db/database.ts';
import type { Deps } from '../deps.ts';
import { AppError } from '../errors.ts';
import type { RequestContext } from '../request-context.ts';
import { lockUser } from './store.ts';

/** Where a password was asked for. */
type PasswordUse = 'password' | 'reauthentication' | 'password_change';

type RefusedPassword = { userId: string | null; check: PasswordCheck; use: PasswordUse };

/**
 * Refuses a password, wherever it was asked for: it is the same guess at the same password, and is written in the
 * same place. Where there is no account the event has no user: what was typed could be a password in the wrong field.
 */
export async function refusePassword(deps: Deps, refused: RefusedPassword, context: RequestContext): Promise<never> {
  const { userId, check, use } = refused;
  if (check.unreadable) {
    // The owner has to reset it, or the operator to give the secret back.
    const reason = 'a stored password hash cannot be read: its secret is not configured, or it is damaged';
    deps.log.warn({ user_id: userId }, reason);
  }
  await inTransaction(deps.db, async (tx) => {
    // An account deleted while its password was checked leaves nothing of who tried. The look-up is made for an
    // unknown address too, so that the work is the same.
    const isThere = await lockUser(tx, userId ?? '');
    const event = { type: 'login.failed', userId: isThere ? userId : null, details: { method: use } } as const;
    await recordEvent(tx, event, context, deps.clock.now());
  });
  countRefusal(deps, refused);
  throw new AppError('invalid_credentials');
}

/** Tells the operator, and nobody else, what the refusal was for. */
function countRefusal({ metrics }: Deps, { userId, check, use }: RefusedPassword): void {
  const outcome = check.unreadable ? 'unreadable_hash' : 'wrong_password';
  if (use !== 'password') metrics.countConfirmation(use, outcome);
  else if (userId === null) metrics.countLogin('password', 'unknown_address');
  else metrics.countLogin('password', check.matches ? 'inactive_account' : outcome);
}
