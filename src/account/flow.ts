import { forgetPersonInEvents, recordEvent } from '../audit/flow.ts';
import { inTransaction } from '../db/database.ts';
import type { Db, UserRow } from '../db/schema.ts';
import type { Deps } from '../deps.ts';
import { AppError, fieldRefused } from '../errors.ts';
import { forgetFailuresOfUser } from '../guessing/flow.ts';
import type { RequestContext } from '../request-context.ts';
import { requireAnotherAdministrator } from '../roles/administrators.ts';
import { endSessionsOfUser } from '../sessions/flow.ts';
import { requireRecentAuthentication } from '../sessions/guard.ts';
import type { Principal } from '../sessions/principal.ts';
import { forgetAddress } from '../verification/flow.ts';
import { deleteUser, findPendingEmailChange, findUserWithRoles, lockUser, updateProfile } from './store.ts';

/** An account as flows see it. */
export type Account = {
  id: string;
  email: string;
  name: string | null;
  locale: string | null;
  metadata: Record<string, unknown>;
  status: UserRow['status'];
  roles: readonly string[];
  /** False for an account that logs in with e-mailed codes alone. */
  hasPassword: boolean;
  createdAtMs: number;
  updatedAtMs: number;
  lastLoginAtMs: number | null;
};

/** What a user may say of themselves; what is undefined stays as it is. */
export type Profile = {
  name?: string | null | undefined;
  locale?: string | null | undefined;
  metadata?: Record<string, unknown> | undefined;
};

const metadataMaxBytes = 8 * 1024;

/** Reads an account. Throws `invalid_token` when it is gone, which only its own owner can meet. */
export async function getAccount(db: Db, userId: string): Promise<Account> {
  const account = await findAccount(db, userId);
  if (account === undefined) throw new AppError('invalid_token');
  return account;
}

/** Reads an account that may not be there. */
export async function findAccount(db: Db, userId: string): Promise<Account | undefined> {
  const found = await findUserWithRoles(db, userId);
  return found === undefined ? undefined : toAccount(found.user, found.roles);
}

/** Changes the profile of one's own account. */
export async function updateAccount(
  deps: Deps,
  principal: Principal,
  profile: Profile,
  context: RequestContext,
): Promise<Account> {
  const columns = profileColumns(profile);
  if (Object.keys(columns).length === 0) return getAccount(deps.db, principal.userId);
  const nowMs = deps.clock.now();
  return inTransaction(deps.db, async (tx) => {
    if (!(await updateProfile(tx, principal.userId, { ...columns, updated_at: nowMs }))) {
      throw new AppError('invalid_token');
    }
    const details = { fields: Object.keys(columns).join(','), by: 'owner' };
    await recordEvent(tx, { type: 'user.updated', userId: principal.userId, details }, context, nowMs);
    return getAccount(tx, principal.userId);
  });
}

/** Deletes one's own account. */
export async function deleteAccount(deps: Deps, principal: Principal, context: RequestContext): Promise<void> {
  requireRecentAuthentication(deps, principal);
  const { userId } = principal;
  const removed = await removeAccount(deps, userId, async (tx, remove) => {
    await recordEvent(tx, { type: 'user.deleted', userId, details: {} }, context, deps.clock.now());
    await remove();
  });
  if (!removed) throw new AppError('invalid_token');
}

/**
 * Removes an account, whoever wants it: user, sessions, roles and waiting mail in one transaction, then the codes and
 * tokens of the address. Audit events stay, with the id alone. `act` is run when the user's row is held: it refuses or
 * calls `remove`, and records the act. Returns false when there is no such account.
 */
export async function removeAccount(
  deps: Deps,
  userId: string,
  act: (tx: Db, remove: () => Promise<void>) => Promise<void>,
): Promise<boolean> {
  const pending = await findPendingEmailChange(deps.db, userId, deps.clock.now());
  const email = await inTransaction(deps.db, async (tx) => {
    // First, as in a login.
    const user = await lockUser(tx, userId);
    if (user === undefined) return undefined;
    await act(tx, async () => {
      await requireAnotherAdministrator(tx, user);
      await deleteUser(tx, userId);
      // The rows went with the user; the other instances must still be told.
      await endSessionsOfUser(deps, tx, userId);
      await forgetFailuresOfUser(tx, userId);
      await forgetPersonInEvents(tx, userId, deps.clock.now());
    });
    return user.email;
  });
  if (email === undefined) return false;
  await forgetAddress(deps, email);
  if (pending !== undefined) await forgetAddress(deps, pending.email);
  return true;
}

/** Checks what the schema cannot and maps a profile to its columns, leaving out what was not given. */
export function profileColumns(profile: Profile): Partial<Pick<UserRow, 'name' | 'locale' | 'metadata'>> {
  const { name, locale, metadata } = profile;
  return {
    ...(name === undefined ? {} : { name }),
    ...(locale === undefined ? {} : { locale: locale === null ? null : canonicalLocale(locale) }),
    ...(metadata === undefined ? {} : { metadata: encodeMetadata(metadata) }),
  };
}

function canonicalLocale(locale: string): string {
  try {
    const [canonical] = Intl.getCanonicalLocales(locale);
    if (canonical !== undefined) return canonical;
  } catch {
    // A RangeError says the same as an empty list: not a language tag.
  }
  throw fieldRefused('/locale', 'must be a language tag (BCP 47)');
}

function encodeMetadata(metadata: Record<string, unknown>): string {
  const json = JSON.stringify(metadata);
  if (Buffer.byteLength(json) <= metadataMaxBytes) return json;
  throw fieldRefused('/metadata', `must be at most ${metadataMaxBytes} bytes as JSON`);
}

/** Makes an account of its row and the names of its roles. */
export function toAccount(row: UserRow, roles: readonly string[]): Account {
  return {
    id: row.id,
    email: row.email,
    name: row.name,
    locale: row.locale,
    metadata: JSON.parse(row.metadata) as Record<string, unknown>,
    status: row.status,
    roles,
    hasPassword: row.password_hash !== null,
    createdAtMs: row.created_at,
    updatedAtMs: row.updated_at,
    lastLoginAtMs: row.last_login_at,
  };
}
