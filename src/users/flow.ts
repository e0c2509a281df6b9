import { type Account, findAccount, getAccount, type Profile, profileColumns, toAccount } from '../account/flow.ts';
import { recordEvent } from '../audit/flow.ts';
import { newId } from '../crypto/ids.ts';
import { inTransaction } from '../db/database.ts';
import { isUniqueViolation } from '../db/failures.ts';
import type { Db, UserRow } from '../db/schema.ts';
import type { Deps } from '../deps.ts';
import { canonicalEmailAddress } from '../email-address.ts';
import { AppError, fieldRefused } from '../errors.ts';
import { notice } from '../mail/outbox.ts';
import { cutPage, type PagePosition } from '../paging.ts';
import { requireAcceptablePassword } from '../password/flow.ts';
import { firstRole } from '../permissions.ts';
import type { RequestContext } from '../request-context.ts';
import { type Actor, actorIdOf, mannerOf, requireActorPermission, requireRecentActor } from '../roles/actor.ts';
import { giveFirstRoles } from '../roles/assignment.ts';
import { readEmailAddress, sendInvitation } from '../verification/flow.ts';
import {
  insertUser,
  isAddressTaken,
  listRoleNamesOf,
  listUsersByAddress,
  listUsersByRole,
  listUsersByTime,
} from './store.ts';

/** Which users are asked for: `email` is the address or its beginning. */
export type UserQuery = {
  email?: string | undefined;
  status?: Account['status'] | undefined;
  role?: string | undefined;
  limit: number;
  after: UserPosition | undefined;
};

/** Where a page of users begins: after an address where they are in that order, else after a time and id. */
export type UserPosition = PagePosition | { email: string };

export type UserPage = { items: Account[]; next: UserPosition | undefined };

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
 * Lists users. Each filter has an index of its own, whose order the page has: addresses where one is searched for, else
 * the newest first. So a page of a million users is read as quickly as one of a thousand.
 */
export async function listUsers(deps: Deps, query: UserQuery): Promise<UserPage> {
  const { email, status, role, limit, after } = query;
  if (email !== undefined) return listByAddress(deps, searchTextOf(email), query);
  if (after !== undefined && !('id' in after)) throw fieldRefused('cursor', 'is not a cursor of this list');
  const rows =
    role === undefined
      ? await listUsersByTime(deps.db, { status }, { limit, after })
      : await listUsersByRole(deps.db, { status, role }, { limit, afterId: after?.id });
  const { items, next } = cutPage(rows, limit, ({ created_at: atMs, id }) => ({ atMs, id }));
  return { items: await withRoles(deps.db, items), next };
}

async function listByAddress(deps: Deps, prefix: string, query: UserQuery): Promise<UserPage> {
  const { status, role, limit, after } = query;
  if (after !== undefined && !('email' in after)) throw fieldRefused('cursor', 'is not a cursor of this list');
  const page = { limit, afterEmail: after?.email };
  const rows = await listUsersByAddress(deps.db, prefix, { status, role }, page);
  const items = rows.slice(0, limit);
  const last = items.at(-1);
  const next = rows.length > limit && last !== undefined ? { email: last.email } : undefined;
  return { items: await withRoles(deps.db, items), next };
}

/** A whole address is looked up as it is stored, whatever its spelling; the beginning of one only has no capitals. */
function searchTextOf(email: string): string {
  return canonicalEmailAddress(email) ?? email.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}

async function withRoles(db: Db, rows: readonly UserRow[]): Promise<Account[]> {
  if (rows.length === 0) return [];
  const ids = rows.map(({ id }) => id);
  const byUser = Map.groupBy(await listRoleNamesOf(db, ids), ({ user_id: userId }) => userId);
  return rows.map((row) =>
    toAccount(
      row,
      (byUser.get(row.id) ?? []).map(({ role_name: name }) => name),
    ),
  );
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
