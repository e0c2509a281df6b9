import { cancelEmailChange } from '../account/email-change.ts';
import { recordEvent } from '../audit/flow.ts';
import { findPasswordFault } from '../crypto/password-policy.ts';
import { inTransaction } from '../db/database.ts';
import type { Deps } from '../deps.ts';
import { forgetDevices, rememberDevice } from '../devices/flow.ts';
import { AppError } from '../errors.ts';
import { type Attempt, forgetFailures, tryPassword, withRightPassword } from '../guessing/flow.ts';
import { refusePassword } from '../login/refusal.ts';
import { notice } from '../mail/outbox.ts';
import type { RequestContext } from '../request-context.ts';
import { endSessionsOfUser } from '../sessions/flow.ts';
import type { Principal } from '../sessions/principal.ts';
import { forgetAddress } from '../verification/flow.ts';
import { type Proof, peekProof, useVerificationToken } from '../verification/tokens.ts';
import {
  findPasswordOwner,
  findResetOwner,
  type PasswordOwner,
  replacePasswordHash,
  setPasswordHash,
} from './store.ts';

/** Refuses a new password that is too short, common, or built from the address of its account. */
export function requireAcceptablePassword(deps: Deps, password: string, email: string, path: string): void {
  const fault = findPasswordFault(password, email, deps.config.environment.PASSWORD_MIN_LENGTH);
  if (fault !== undefined) throw new AppError('password_rejected', { errors: [{ path, message: fault }] });
}

/**
 * Changes one's own password with the current one. Every other session ends and the owner is told, so
 * that whoever had the old password has nothing left.
 */
export async function changePassword(
  deps: Deps,
  principal: Principal,
  input: { currentPassword: string; newPassword: string },
  context: RequestContext,
): Promise<void> {
  const owner = await findPasswordOwner(deps.db, principal.userId);
  if (owner === undefined) throw new AppError('invalid_token');
  const target = { email: owner.email, owner, sessionId: principal.sessionId };
  const attempt = await tryPassword(deps, target, input.currentPassword, context);
  if (!attempt.matches) await refusePassword(deps, { owner, attempt, use: 'password_change' }, context);
  await withRightPassword(deps, attempt, async () => {
    requireAcceptablePassword(deps, input.newPassword, owner.email, '/new_password');
    const newHash = await deps.passwords.hash(input.newPassword, context.signal);
    await applyPasswordChange(deps, principal, { owner, newHash, attempt }, context);
  });
  deps.metrics.countConfirmation('password_change', 'succeeded');
  deps.metrics.countPasswordChange('password');
  deps.outbox.wake();
}

async function applyPasswordChange(
  deps: Deps,
  principal: Principal,
  { owner, newHash, attempt }: { owner: PasswordOwner; newHash: string; attempt: Attempt },
  context: RequestContext,
): Promise<void> {
  const nowMs = deps.clock.now();
  await inTransaction(deps.db, async (tx) => {
    const change = { userId: owner.id, oldHash: owner.password_hash, newHash, nowMs };
    // Changed by somebody else while we hashed: the password that was checked is no longer the current one.
    if (!(await replacePasswordHash(tx, change))) throw new AppError('invalid_credentials');
    await forgetFailures(tx, attempt);
    const ended = await endSessionsOfUser(deps, tx, owner.id, principal.sessionId);
    await forgetDevices(tx, owner.id);
    await rememberDevice(deps, tx, owner.id, context);
    await cancelEmailChange(tx, { userId: owner.id, by: 'password_change' }, context, nowMs);
    const details = { sessions_ended: ended };
    await recordEvent(tx, { type: 'password.changed', userId: owner.id, details }, context, nowMs);
    await deps.outbox.enqueue(tx, notice(owner, { kind: 'password_changed' }, nowMs));
  });
}

/**
 * Sets a new password with the proof of the address. Nobody who had a hold on the account keeps one: all
 * sessions end, other codes and proofs of the address die, and a change of address under way is cancelled.
 * Nobody is logged in by it.
 */
export async function resetPassword(
  deps: Deps,
  input: { verificationToken: string; newPassword: string },
  context: RequestContext,
): Promise<void> {
  const { verificationToken, newPassword } = input;
  const proof = await peekProof(deps, verificationToken, 'password_reset');
  requireAcceptablePassword(deps, newPassword, proof.email, '/new_password');
  const newHash = await deps.passwords.hash(newPassword, context.signal);
  await useVerificationToken(deps, verificationToken, 'password_reset', (used) =>
    applyReset(deps, used, newHash, context),
  );
  deps.metrics.countPasswordChange('code');
  await forgetAddress(deps, proof.email);
  deps.outbox.wake();
}

async function applyReset(
  deps: Deps,
  { email, sentAtMs }: Proof,
  newHash: string,
  context: RequestContext,
): Promise<void> {
  const nowMs = deps.clock.now();
  await inTransaction(deps.db, async (tx) => {
    const owner = await findResetOwner(tx, email);
    // Disabled, deleted or moved to another address since the code was sent.
    const change = { email, proofSentAtMs: sentAtMs, newHash, nowMs };
    if (owner === undefined || !(await setPasswordHash(tx, { userId: owner.id, ...change }))) {
      throw new AppError('invalid_verification_token');
    }
    const ended = await endSessionsOfUser(deps, tx, owner.id);
    await forgetDevices(tx, owner.id);
    await cancelEmailChange(tx, { userId: owner.id, by: 'password_reset' }, context, nowMs);
    const details = { sessions_ended: ended };
    await recordEvent(tx, { type: 'password.reset', userId: owner.id, details }, context, nowMs);
    await deps.outbox.enqueue(tx, notice(owner, { kind: 'password_reset' }, nowMs));
  });
}
