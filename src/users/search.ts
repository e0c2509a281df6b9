import { type Account, toAccount } from '../account/flow.ts';
import type { Db, UserRow } from '../db/schema.ts';
import type { Deps } from '../deps.ts';
import { canonicalEmailAddress } from '../email-address.ts';
import { fieldRefused } from '../errors.ts';
import { cutPage, type PagePosition } from '../paging.ts';
import {
  findUserRows,
  listRoleNamesOf,
  listUsersByAddress,
  listUsersByTime,
  lookAtAddresses,
  lookAtHolders,
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

/** A page may hold less than was asked for, and others follow all the same while `next` is there. */
export type UserPage = { items: Account[]; next: UserPosition | undefined };

// Where two filters have no index together, the rows of one are looked at for those that fit the other. So many, and
// the page ends there, however few have been found: a search for nobody among a million must not hold up others.
const rowsLookedAtMax = 1_000;

/**
 * Lists users. Each filter has an index, whose order the page has: addresses where one is searched for, else the newest
 * first. So a page of a million users is read as quickly as one of a thousand.
 */
export async function listUsers(deps: Deps, query: UserQuery): Promise<UserPage> {
  const { email, role, after } = query;
  if (email !== undefined) {
    if (after !== undefined && !('email' in after)) throw notOfThisList();
    const search = { ...query, prefix: searchTextOf(email), afterEmail: after?.email };
    return role === undefined ? listByAddress(deps.db, search) : listByAddressAndRole(deps.db, { ...search, role });
  }
  if (after !== undefined && !('id' in after)) throw notOfThisList();
  return role === undefined
    ? listByTime(deps.db, { ...query, after })
    : listByRole(deps.db, { ...query, role, afterId: after?.id });
}

function notOfThisList() {
  return fieldRefused('cursor', 'is not a cursor of this list');
}

/** A whole address is looked up as it is stored, whatever its spelling; the beginning of one only has no capitals. */
function searchTextOf(email: string): string {
  return canonicalEmailAddress(email) ?? email.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}

type Filtered = { status?: Account['status'] | undefined; limit: number };
type ByAddress = Filtered & { prefix: string; afterEmail: string | undefined };

async function listByTime(db: Db, { status, limit, after }: Filtered & { after: PagePosition | undefined }) {
  const rows = await listUsersByTime(db, status, { limit, after });
  const { items, next } = cutPage(rows, limit, ({ created_at: atMs, id }) => ({ atMs, id }));
  return { items: await withRoles(db, items), next };
}

async function listByAddress(db: Db, { prefix, status, limit, afterEmail }: ByAddress): Promise<UserPage> {
  const rows = await listUsersByAddress(db, { prefix, status }, { limit, afterEmail });
  const items = rows.slice(0, limit);
  const last = items.at(-1);
  const next = rows.length > limit && last !== undefined ? { email: last.email } : undefined;
  return { items: await withRoles(db, items), next };
}

async function listByRole(
  db: Db,
  { status, role, limit, afterId }: Filtered & { role: string; afterId: string | undefined },
): Promise<UserPage> {
  const count = status === undefined ? limit + 1 : rowsLookedAtMax;
  const seen = await lookAtHolders(db, role, { count, afterId });
  const fitting = seen.filter((holder) => status === undefined || holder.status === status);
  const { chosen, last } = choose({ seen, fitting, count, limit });
  const next = last === undefined ? undefined : { atMs: last.created_at, id: last.id };
  return { items: await readChosen(db, chosen), next };
}

async function listByAddressAndRole(db: Db, search: ByAddress & { role: string }): Promise<UserPage> {
  const { prefix, status, role, limit, afterEmail } = search;
  const count = rowsLookedAtMax;
  const seen = await lookAtAddresses(db, { prefix, status, role }, { count, afterEmail });
  const { chosen, last } = choose({ seen, fitting: seen.filter((user) => user.role_name !== null), count, limit });
  return { items: await readChosen(db, chosen), next: last === undefined ? undefined : { email: last.email } };
}

/** Cuts a page from those who fit among so many that were looked at. `last` is where the next page goes on. */
function choose<T>(look: { seen: readonly T[]; fitting: readonly T[]; count: number; limit: number }) {
  const { seen, fitting, count, limit } = look;
  const chosen = fitting.slice(0, limit);
  if (fitting.length > limit) return { chosen, last: chosen.at(-1) };
  return { chosen, last: seen.length === count ? seen.at(-1) : undefined };
}

async function readChosen(db: Db, chosen: readonly { id: string }[]): Promise<Account[]> {
  if (chosen.length === 0) return [];
  const ids = chosen.map(({ id }) => id);
  const rows = new Map((await findUserRows(db, ids)).map((row) => [row.id, row]));
  // One that was deleted a moment ago is left out.
  return withRoles(
    db,
    ids.flatMap((id) => rows.get(id) ?? []),
  );
}

async function withRoles(db: Db, rows: readonly UserRow[]): Promise<Account[]> {
  if (rows.length === 0) return [];
  const ids = rows.map(({ id }) => id);
  const byUser = Map.groupBy(await listRoleNamesOf(db, ids), ({ user_id: userId }) => userId);
  const namesOf = (id: string) => (byUser.get(id) ?? []).map(({ role_name: name }) => name);
  return rows.map((row) => toAccount(row, namesOf(row.id)));
}
