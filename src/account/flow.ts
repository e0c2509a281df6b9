import { forgetPersonInEvents, recordEvent } from '../audit/flow.ts';
import { inTransaction } from '../db/database.ts';
import type { Db, UserRow } from '../db/schema.ts';
import type { Deps } from '../deps.ts';
import { AppError, fieldRefused } from '../errors.ts';
import { forgetFailuresOfUser } from '../guessing/flow.ts';
import type { RequestContext } from '../request-context.ts';
import { endSessionsOfUser } from '../sessions/flow.ts';
import { requireRecentAuthentication } from '../sessions/guard.ts';
import type { Principal } from '../sessions/principal.ts';
import { forgetAddress } from '../verification/flow.ts';
import { deleteUser, findPendingEmailChange, findUser, listRoleNames, updateProfile } from './store.ts';

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
  const row = await findUser(db, userId);
  if (row === undefined) throw new AppError('invalid_token');
  return toAccount(row, await listRoleNames(db, userId));
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
    const details = { fields: Object.keys(columns).join(',') };
    await recordEvent(tx, { type: 'user.updated', userId: principal.userId, details }, context, nowMs);
    return getAccount(tx, principal.userId);
  });
}

/**
 * Deletes one's own account: user, sessions, roles and waiting mail in one transaction, then the codes and
 * tokens of the address. Audit events stay, with the id alone.
 */
export async function deleteAccount(deps: Deps, principal: Principal, context: RequestContext): Promise<void> {
  requireRecentAuthentication(deps, principal);
  const pending = await findPendingEmailChange(deps.db, principal.userId, deps.clock.now());
  const email = await inTransaction(deps.db, async (tx) => {
    const address = await deleteUser(tx, principal.userId);
    if (address === undefined) throw new AppError('invalid_token');
    // The rows went with the user, whose row is locked first as in a login; the other instances must still be told.
    await endSessionsOfUser(deps, tx, principal.userId);
    await forgetFailuresOfUser(tx, principal.userId);
    const nowMs = deps.clock.now();
    await recordEvent(tx, { type: 'user.deleted', userId: principal.userId, details: {} }, context, nowMs);
    await forgetPersonInEvents(tx, principal.userId, nowMs);
    return address;
  });
  await forgetAddress(deps, email);
  if (pending !== undefined) await forgetAddress(deps, pending.email);
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

function toAccount(row: UserRow, roles: readonly string[]): Account {
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
