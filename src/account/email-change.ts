import { recordEvent } from '../audit/flow.ts';
import { inTransaction } from '../db/database.ts';
import { isForeignKeyViolation, isUniqueViolation } from '../db/failures.ts';
import type { Db } from '../db/schema.ts';
import type { Deps } from '../deps.ts';
import { AppError, fieldRefused } from '../errors.ts';
import { notice } from '../mail/outbox.ts';
import type { RequestContext } from '../request-context.ts';
import { requireRecentAuthentication } from '../sessions/guard.ts';
import type { Principal } from '../sessions/principal.ts';
import { forgetAddress, readEmailAddress, type SentCode, sendEmailChangeCode } from '../verification/flow.ts';
import { peekProof, useVerificationToken } from '../verification/tokens.ts';
import { type Account, getAccount } from './flow.ts';
import { deletePendingEmailChange, putPendingEmailChange, takePendingEmailChange, updateEmail } from './store.ts';

// The code, then the verification token, may take this long together; the proof needs the row until then.
const pendingTtlMs = 30 * 60 * 1000;

/**
 * Begins a change of address: the new one gets a code. Whether somebody else has it already is not
 * revealed; its owner is told by mail. A second request replaces the first.
 */
export async function requestEmailChange(
  deps: Deps,
  principal: Principal,
  input: { email: string },
  context: RequestContext,
): Promise<SentCode> {
  requireRecentAuthentication(deps, principal);
  const email = readEmailAddress(input.email);
  const account = await getAccount(deps.db, principal.userId);
  if (account.email === email) throw fieldRefused('/email', 'is your address already');
  const { userId } = principal;
  const nowMs = deps.clock.now();
  const pending = { user_id: userId, email, created_at: nowMs, expires_at: nowMs + pendingTtlMs };
  const record = async (tx: Db) => {
    await putPendingEmailChange(tx, pending);
    await recordEvent(tx, { type: 'email_change.requested', userId, details: {} }, context, nowMs);
  };
  try {
    return await sendEmailChangeCode(deps, { email, userId, locale: account.locale, record });
  } catch (error) {
    // The account was deleted in this instant, by its owner in another session.
    if (isForeignKeyViolation(error)) throw new AppError('invalid_token', { cause: error });
    throw error;
  }
}

type Cancellation = {
  userId: string;
  /** Who does it, where that is not the user. */
  actorId?: string | null;
  by: 'password_change' | 'password_reset' | 'administration';
};

/** Cancels a change of address that is under way. Pass the transaction of the act that ends it. */
export async function cancelEmailChange(
  tx: Db,
  { userId, actorId = userId, by }: Cancellation,
  context: RequestContext | undefined,
  nowMs: number,
): Promise<void> {
  if (!(await deletePendingEmailChange(tx, userId, nowMs))) return;
  await recordEvent(tx, { type: 'email_change.cancelled', userId, actorId, details: { by } }, context, nowMs);
}

/** Completes a change of address with the proof of the new one. The old address is told. */
export async function changeEmail(
  deps: Deps,
  principal: Principal,
  verificationToken: string,
  context: RequestContext,
): Promise<Account> {
  const proof = await peekProof(deps, verificationToken, 'email_change');
  // Judged before it is used up: whoever asked for the code is the only one it works for.
  if (proof.userId !== principal.userId) throw new AppError('invalid_verification_token');
  const { account, oldEmail } = await useVerificationToken(deps, verificationToken, 'email_change', ({ email }) =>
    applyChange(deps, principal.userId, email, context),
  );
  // Codes and proofs of the old address must open nothing any more, and of the new one nothing old.
  await forgetAddress(deps, oldEmail);
  await forgetAddress(deps, account.email);
  deps.outbox.wake();
  return account;
}

async function applyChange(deps: Deps, userId: string, newEmail: string, context: RequestContext) {
  const nowMs = deps.clock.now();
  try {
    return await inTransaction(deps.db, async (tx) => {
      const old = await getAccount(tx, userId);
      // The user's row first, as every other change of an account locks it, so that two of them cannot deadlock.
      if (!(await updateEmail(tx, userId, newEmail, nowMs))) throw new AppError('invalid_token');
      // Cancelled by a reset or a password change, or replaced by a request for another address.
      if (!(await takePendingEmailChange(tx, userId, newEmail, nowMs))) {
        throw new AppError('invalid_verification_token');
      }
      const details = { sessions_ended: 0, by: 'owner' };
      await recordEvent(tx, { type: 'email.changed', userId, details }, context, nowMs);
      await deps.outbox.enqueue(tx, notice(old, { kind: 'email_changed' }, nowMs));
      return { account: await getAccount(tx, userId), oldEmail: old.email };
    });
  } catch (error) {
    // The unique index decides a race for the address; whoever holds this token owns it and may know.
    if (isUniqueViolation(error)) throw new AppError('account_exists', { cause: error });
    throw error;
  }
}
