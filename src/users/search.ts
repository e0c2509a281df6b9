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
  pickByRole,
  pickByStatus,
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
  const { chosen, last } = await choose(limit, afterId, async (count, after) => {
    const ids = await lookAtHolders(db, role, { count, afterId: after });
    const isFitting = await fitting(ids, (some) => status && pickByStatus(db, some, status));
    return ids.map((id) => ({ id, position: id, isFitting: isFitting(id) }));
  });
  // The id alone is the position; the time is only the form of a cursor.
  return { items: await readChosen(db, chosen), next: last === undefined ? undefined : { atMs: 0, id: last } };
}

async function listByAddressAndRole(db: Db, search: ByAddress & { role: string }): Promise<UserPage> {
  const { prefix, status, role, limit, afterEmail } = search;
  const { chosen, last } = await choose(limit, afterEmail, async (count, after) => {
    const users = await lookAtAddresses(db, { prefix, status }, { count, afterEmail: after });
    const ids = users.map(({ id }) => id);
    const isFitting = await fitting(ids, (some) => pickByRole(db, some, role));
    return users.map(({ id, email }) => ({ id, position: email, isFitting: isFitting(id) }));
  });
  return { items: await readChosen(db, chosen), next: last === undefined ? undefined : { email: last } };
}

async function fitting(ids: readonly string[], pick: (ids: readonly string[]) => Promise<Set<string>> | undefined) {
  const picked = ids.length === 0 ? new Set<string>() : await pick(ids);
  return (id: string) => picked?.has(id) ?? true;
}

type Candidate = { id: string; position: string; isFitting: boolean };

/**
 * Looks at candidates in their order until a page is full, a few at first and then at as many as a page may. `last` is
 * where the next page goes on.
 */
async function choose(
  limit: number,
  start: string | undefined,
  look: (count: number, after: string | undefined) => Promise<Candidate[]>,
): Promise<{ chosen: string[]; last: string | undefined }> {
  const chosen: string[] = [];
  let after = start;
  for (const count of [limit + 1, rowsLookedAtMax]) {
    const seen = await look(count, after);
    for (const { id, position, isFitting } of seen) {
      if (isFitting && chosen.length === limit) return { chosen, last: after };
      if (isFitting) chosen.push(id);
      after = position;
    }
    if (seen.length < count) return { chosen, last: undefined };
  }
  return { chosen, last: after };
}

async function readChosen(db: Db, ids: readonly string[]): Promise<Account[]> {
  if (ids.length === 0) return [];
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
  const namesOf = (id: string) => (byUser.get(id) ?? []).map(({ role_name: name }) => name).sort();
  return rows.map((row) => toAccount(row, namesOf(row.id)));
}
