import { type Account, findAccount, getAccount, type Profile, profileColumns } from '../account/flow.ts';
import { recordEvent } from '../audit/flow.ts';
import { newId } from '../crypto/ids.ts';
import { inTransaction } from '../db/database.ts';
import { isUniqueViolation } from '../db/failures.ts';
import type { Db, UserRow } from '../db/schema.ts';
import type { Deps } from '../deps.ts';
import { AppError } from '../errors.ts';
import { notice } from '../mail/outbox.ts';
import { requireAcceptablePassword } from '../password/flow.ts';
import { firstRole } from '../permissions.ts';
import type { RequestContext } from '../request-context.ts';
import { type Actor, actorIdOf, mannerOf, requireActorPermission, requireRecentActor } from '../roles/actor.ts';
import { giveFirstRoles } from '../roles/assignment.ts';
import { readEmailAddress } from '../verification/flow.ts';
import { sendInvitation } from '../verification/invitation.ts';
import { insertUser, isAddressTaken } from './store.ts';

/** A user that an administrator or the operator makes. */
export type NewUser = {
  email: string;
  profile: Profile;
  /** What they may do from the beginning; `user` where it is left out. */
  roles?: readonly string[] | undefined;
};

/** Reads a user. */
export async function getUser(deps: Deps, userId: string): Promise<Account> {
  const account = await findAccount(deps.db, userId);
  if (account === undefined) throw new AppError('not_found');
  return account;
}

/**
 * Makes a user and invites them by mail: the account is theirs when they register with their address. From an
 * administrator the invitation carries a code; the operator's process ends before anybody could use one.
 */
export async function createUser(
  deps: Deps,
  actor: Actor,
  input: NewUser,
  context: RequestContext | undefined,
): Promise<Account> {
  const email = readEmailAddress(input.email);
  const columns = profileColumns(input.profile);
  requireMayGive(deps, actor, input.roles);
  // Before the budget of mails, so that the answer is the true one.
  if (await isAddressTaken(deps.db, email)) throw new AppError('account_exists');
  const userId = newId();
  const row = { id: userId, email, status: 'invited', password_hash: null, last_login_at: null, columns } as const;
  const record = async (tx: Db) => {
    await insertNewUser(deps, tx, row);
    await giveRoles(tx, actor, userId, input.roles);
    const details = { roles: (input.roles ?? [firstRole]).join(','), by: mannerOf(actor) };
    const event = { type: 'user.invited', userId, actorId: actorIdOf(actor), details } as const;
    await recordEvent(tx, event, context, deps.clock.now());
  };
  const locale = columns.locale ?? null;
  await refuseTakenAddress(async () => {
    if (actor.kind === 'user') {
      const { userId: actorId } = actor.principal;
      await sendInvitation(deps, { email, userId, locale, actorId, record }, context);
      return;
    }
    await inTransaction(deps.db, async (tx) => {
      await record(tx);
      const message = { kind: 'invitation', code: undefined } as const;
      await deps.outbox.enqueue(tx, notice({ id: userId, email, locale }, message, deps.clock.now()));
    });
    deps.outbox.wake();
  });
  return getAccount(deps.db, userId);
}

/**
 * Makes a user who can log in at once. Only the operator may: nobody else can vouch for an address that is not proved.
 */
export async function createActiveUser(deps: Deps, input: NewUser & { password: string }): Promise<Account> {
  const operator = { kind: 'operator' } as const;
  const email = readEmailAddress(input.email);
  const columns = profileColumns(input.profile);
  requireAcceptablePassword(deps, input.password, email, '/password');
  if (await isAddressTaken(deps.db, email)) throw new AppError('account_exists');
  const passwordHash = await deps.passwords.hash(input.password);
  const userId = newId();
  const row = {
    id: userId,
    email,
    status: 'active',
    password_hash: passwordHash,
    last_login_at: null,
    columns,
  } as const;
  return refuseTakenAddress(() =>
    inTransaction(deps.db, async (tx) => {
      await insertNewUser(deps, tx, row);
      await giveRoles(tx, operator, userId, input.roles);
      const details = { roles: (input.roles ?? [firstRole]).join(','), by: mannerOf(operator) };
      await recordEvent(tx, { type: 'user.created', userId, actorId: null, details }, undefined, deps.clock.now());
      return getAccount(tx, userId);
    }),
  );
}

/** The role that everybody begins with is nobody's gift; any other is an assignment of roles, with what that needs. */
function requireMayGive(deps: Deps, actor: Actor, roles: readonly string[] | undefined): void {
  if (roles === undefined || roles.every((name) => name === firstRole)) return;
  requireActorPermission(actor, 'roles:assign');
  requireRecentActor(deps, actor);
}

async function giveRoles(tx: Db, actor: Actor, userId: string, roles: readonly string[] | undefined): Promise<void> {
  const isGift = roles?.some((name) => name !== firstRole) ?? false;
  await giveFirstRoles(tx, isGift ? actor : { kind: 'operator' }, userId, roles ?? [firstRole]);
}

type NewRow = Pick<UserRow, 'id' | 'email' | 'status' | 'password_hash' | 'last_login_at'> & {
  columns: ReturnType<typeof profileColumns>;
};

function insertNewUser(deps: Deps, tx: Db, { columns, ...row }: NewRow): Promise<void> {
  const nowMs = deps.clock.now();
  return insertUser(tx, {
    ...row,
    name: columns.name ?? null,
    locale: columns.locale ?? null,
    metadata: columns.metadata ?? '{}',
    created_at: nowMs,
    updated_at: nowMs,
  });
}

/** The unique index decides a race for an address. */
export async function refuseTakenAddress<T>(act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (isUniqueViolation(error)) throw new AppError('account_exists', { cause: error });
    throw error;
  }
}
