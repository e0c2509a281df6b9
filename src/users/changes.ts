import { cancelEmailChange } from '../account/email-change.ts';
import { type Account, getAccount, type Profile, profileColumns, removeAccount } from '../account/flow.ts';
import { recordEvent } from '../audit/flow.ts';
import { inTransaction } from '../db/database.ts';
import type { Db, UserRow } from '../db/schema.ts';
import type { Deps } from '../deps.ts';
import { AppError } from '../errors.ts';
import { notice } from '../mail/outbox.ts';
import type { RequestContext } from '../request-context.ts';
import { type Actor, actorIdOf, mannerOf, requireRecentActor } from '../roles/actor.ts';
import { requireAnotherAdministrator } from '../roles/administrators.ts';
import { replaceRoles, requireReachOf } from '../roles/assignment.ts';
import { endSessionsOfUser } from '../sessions/flow.ts';
import { forgetAddress, readEmailAddress } from '../verification/flow.ts';
import { refuseTakenAddress } from './flow.ts';
import { lockUserRow, updateUser } from './store.ts';

/** What an administrator changes of a user; what is undefined stays as it is. */
export type UserPatch = Profile & { status?: 'active' | 'disabled' | undefined; email?: string | undefined };

/** One act of an actor on one user, in a transaction that holds the user's row. */
type Act = { deps: Deps; tx: Db; actor: Actor; user: UserRow; context: RequestContext | undefined; nowMs: number };

/**
 * Changes a user: all that is asked for, or nothing. Status and address could take an account from its owner, so they
 * need a recent authentication.
 */
export async function changeUser(
  deps: Deps,
  actor: Actor,
  userId: string,
  patch: UserPatch,
  context: RequestContext | undefined,
): Promise<Account> {
  const { status, email: wantedEmail, ...profile } = patch;
  if (status !== undefined || wantedEmail !== undefined) requireRecentActor(deps, actor);
  const email = wantedEmail === undefined ? undefined : readEmailAddress(wantedEmail);
  const columns = profileColumns(profile);
  const { account, oldEmail } = await refuseTakenAddress(() =>
    actOnUser(deps, actor, userId, context, async (act) => {
      await changeProfile(act, columns);
      if (status !== undefined) await changeStatus(act, status);
      if (email !== undefined) await changeAddress(act, email);
      return { account: await getAccount(act.tx, userId), oldEmail: act.user.email };
    }),
  );
  if (account.email !== oldEmail) {
    // Codes and proofs of the old address must open nothing any more, and of the new one nothing old.
    await forgetAddress(deps, oldEmail);
    await forgetAddress(deps, account.email);
    deps.outbox.wake();
  }
  return account;
}

/** Disables a user: every session ends, on every instance before the answer, and nothing logs in until it is enabled. */
export function disableUser(
  deps: Deps,
  actor: Actor,
  userId: string,
  context: RequestContext | undefined,
): Promise<Account> {
  return changeUser(deps, actor, userId, { status: 'disabled' }, context);
}

/** Lets a disabled user log in again. */
export function enableUser(
  deps: Deps,
  actor: Actor,
  userId: string,
  context: RequestContext | undefined,
): Promise<Account> {
  return changeUser(deps, actor, userId, { status: 'active' }, context);
}

/** Makes these the roles of a user. */
export function assignRoles(
  deps: Deps,
  actor: Actor,
  userId: string,
  roles: readonly string[],
  context: RequestContext | undefined,
): Promise<Account> {
  requireRecentActor(deps, actor);
  return actOnUser(deps, actor, userId, context, async ({ tx, user }) => {
    const isChanged = await replaceRoles(deps, tx, { actor, user, names: roles }, context);
    if (isChanged) await updateUser(tx, userId, { updated_at: deps.clock.now() });
    return getAccount(tx, userId);
  });
}

/** Ends every session of a user. Returns how many ended. */
export function endUserSessions(
  deps: Deps,
  actor: Actor,
  userId: string,
  context: RequestContext | undefined,
): Promise<number> {
  return actOnUser(deps, actor, userId, context, async (act) => {
    const ended = await endSessionsOfUser(deps, act.tx, userId);
    if (ended > 0) await record(act, 'user.sessions_ended', { ended });
    return ended;
  });
}

/** Deletes a user as they could themselves, with everything of theirs. */
export async function deleteUserByAdministrator(
  deps: Deps,
  actor: Actor,
  userId: string,
  context: RequestContext | undefined,
): Promise<void> {
  requireRecentActor(deps, actor);
  const removed = await removeAccount(deps, userId, async (tx, remove) => {
    await requireReachOf(tx, actor, userId);
    await remove();
    // After what is about the user was blanked: where the administrator was is not about the user.
    const event = { type: 'user.deleted', userId, actorId: actorIdOf(actor), details: {} } as const;
    await recordEvent(tx, event, context, deps.clock.now());
  });
  if (!removed) throw new AppError('not_found');
}

async function actOnUser<T>(
  deps: Deps,
  actor: Actor,
  userId: string,
  context: RequestContext | undefined,
  act: (act: Act) => Promise<T>,
): Promise<T> {
  return inTransaction(deps.db, async (tx) => {
    const user = await lockUserRow(tx, userId);
    if (user === undefined) throw new AppError('not_found');
    await requireReachOf(tx, actor, userId);
    return act({ deps, tx, actor, user, context, nowMs: deps.clock.now() });
  });
}

async function changeProfile(act: Act, columns: ReturnType<typeof profileColumns>): Promise<void> {
  const fields = Object.keys(columns);
  if (fields.length === 0) return;
  await updateUser(act.tx, act.user.id, { ...columns, updated_at: act.nowMs });
  await record(act, 'user.updated', { fields: fields.join(',') });
}

async function changeStatus(act: Act, status: 'active' | 'disabled'): Promise<void> {
  const { deps, tx, user, nowMs } = act;
  if (user.status === status) return;
  if (user.status === 'invited') throw new AppError('address_not_proved');
  if (status === 'active') {
    await updateUser(tx, user.id, { status, updated_at: nowMs });
    await record(act, 'user.enabled', {});
    return;
  }
  await requireAnotherAdministrator(tx, user);
  // Proofs from before open nothing when the user is enabled again.
  await updateUser(tx, user.id, { status, updated_at: nowMs, proofs_valid_from: nowMs });
  await cancelEmailChange(tx, user.id);
  const ended = await endSessionsOfUser(deps, tx, user.id);
  await record(act, 'user.disabled', { sessions_ended: ended });
}

/**
 * Moves an account to an address that an administrator vouches for. Whoever is logged in with the old one is logged
 * out, because the account may be somebody else's now; the old address is told.
 */
async function changeAddress(act: Act, email: string): Promise<void> {
  const { deps, tx, user, nowMs } = act;
  if (user.email === email) return;
  await updateUser(tx, user.id, { email, updated_at: nowMs, proofs_valid_from: nowMs });
  await cancelEmailChange(tx, user.id);
  const ended = await endSessionsOfUser(deps, tx, user.id);
  await record(act, 'email.changed', { sessions_ended: ended });
  if (user.status !== 'invited') await deps.outbox.enqueue(tx, notice(user, { kind: 'email_changed' }, nowMs));
  else await deps.outbox.enqueue(tx, notice({ ...user, email }, { kind: 'invitation', code: undefined }, nowMs));
}

type ActType = 'user.updated' | 'user.disabled' | 'user.enabled' | 'user.sessions_ended' | 'email.changed';

function record(act: Act, type: ActType, facts: Record<string, string | number>): Promise<void> {
  const { tx, actor, user, context, nowMs } = act;
  const details = { ...facts, by: mannerOf(actor) };
  return recordEvent(tx, { type, userId: user.id, actorId: actorIdOf(actor), details }, context, nowMs);
}
