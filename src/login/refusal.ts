import { recordEvent } from '../audit/flow.ts';
import type { PasswordCheck } from '../crypto/passwords.ts';
import { inTransaction } from '../db/database.ts';
import type { Deps } from '../deps.ts';
import { AppError } from '../errors.ts';
import type { RequestContext } from '../request-context.ts';
import { lockUser } from './store.ts';

/** Where a password was asked for. */
type PasswordUse = 'password' | 'reauthentication' | 'password_change';

/** What a refusal is written as. A login proves nobody; elsewhere the session says who asks. */
const refusals = {
  password: { type: 'login.failed', details: { method: 'password' }, isProved: false },
  reauthentication: { type: 'reauthentication.refused', details: {}, isProved: true },
  password_change: { type: 'password_change.refused', details: {}, isProved: true },
} as const;

/**
 * Refuses a password, wherever it was asked for: it is the same guess at the same password, and is written in the
 * same place. Where there is no account the event has no user: what was typed could be a password in the wrong field.
 */
export async function refusePassword(
  deps: Deps,
  refused: { userId: string | null; check: PasswordCheck; use: PasswordUse },
  context: RequestContext,
): Promise<never> {
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
    const { type, details, isProved } = refusals[use];
    const subject = isThere ? userId : null;
    const event = { type, userId: subject, actorId: isProved ? subject : null, details };
    await recordEvent(tx, event, context, deps.clock.now());
  });
  throw new AppError('invalid_credentials');
}

/** Refuses the right proof of an address whose account is disabled or gone. */
export async function refuseProof(deps: Deps, userId: string | null, context: RequestContext): Promise<never> {
  await inTransaction(deps.db, async (tx) => {
    const subject = (await lockUser(tx, userId ?? '')) ? userId : null;
    const event = { type: 'login.failed', userId: subject, actorId: null, details: { method: 'code' } } as const;
    await recordEvent(tx, event, context, deps.clock.now());
  });
  throw new AppError('invalid_verification_token');
}
