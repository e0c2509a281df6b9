import type { Db, NewUserRow, UserRow } from '../db/schema.ts';
import { beforeTheNewest, type PagePosition } from '../paging.ts';

/** Adds a user. Fails with a unique violation when the address is taken. */
export async function insertUser(db: Db, row: NewUserRow): Promise<void> {
  await db.insertInto('users').values(row).execute();
}

/** Says whether an address has an account. */
export async function isAddressTaken(db: Db, email: string): Promise<boolean> {
  return (await db.selectFrom('users').select('id').where('email', '=', email).executeTakeFirst()) !== undefined;
}

/** Holds a user's row still for the rest of the transaction. Returns it, or undefined when there is none. */
export function lockUserRow(db: Db, userId: string): Promise<UserRow | undefined> {
  return db
    .updateTable('users')
    .set((eb) => ({ email: eb.ref('email') }))
    .where('id', '=', userId)
    .returningAll()
    .executeTakeFirst();
}

type UserChange = Partial<Pick<UserRow, 'name' | 'locale' | 'metadata' | 'status' | 'email' | 'proofs_valid_from'>>;

/** Changes a user. Fails with a unique violation when the address is taken. */
export async function updateUser(db: Db, userId: string, change: UserChange & { updated_at: number }): Promise<void> {
  await db.updateTable('users').set(change).where('id', '=', userId).execute();
}

/** Lists users, the newest first. Reads one more than the page holds. */
export function listUsersByTime(
  db: Db,
  status: UserRow['status'] | undefined,
  page: { limit: number; after: PagePosition | undefined },
): Promise<UserRow[]> {
  const { after = beforeTheNewest, limit } = page;
  return db
    .selectFrom('users')
    .selectAll()
    .$if(status !== undefined, (query) => query.where('status', '=', status ?? 'active'))
    .where(({ eb, refTuple, tuple }) => eb(refTuple('created_at', 'id'), '<', tuple(after.atMs, after.id)))
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .limit(limit + 1)
    .execute();
}

/** Lists the users whose address begins so, in the order of their addresses. Reads one more than the page holds. */
export function listUsersByAddress(
  db: Db,
  search: AddressSearch,
  page: { limit: number; afterEmail: string | undefined },
): Promise<UserRow[]> {
  return selectByAddress(db, search, page.afterEmail)
    .selectAll()
    .limit(page.limit + 1)
    .execute();
}

/** Where addresses begin so: so many users in the order of their addresses, by little more than their ids. */
export function lookAtAddresses(
  db: Db,
  search: AddressSearch,
  look: { count: number; afterEmail: string | undefined },
): Promise<Pick<UserRow, 'id' | 'email'>[]> {
  return selectByAddress(db, search, look.afterEmail).select(['id', 'email']).limit(look.count).execute();
}

type AddressSearch = { prefix: string; status: UserRow['status'] | undefined };

function selectByAddress(db: Db, { prefix, status }: AddressSearch, afterEmail: string | undefined) {
  return (
    db
      .selectFrom('users')
      .where('email', '>=', prefix)
      // Addresses are ASCII, and this is behind every one that begins so.
      .where('email', '<', `${prefix}\u007f`)
      .$if(afterEmail !== undefined, (query) => query.where('email', '>', afterEmail ?? ''))
      .$if(status !== undefined, (query) => query.where('status', '=', status ?? 'active'))
      .orderBy('email')
  );
}

/** The ids of so many who have a role. Their order is that of the making of the accounts: the newest first. */
export async function lookAtHolders(
  db: Db,
  role: string,
  look: { count: number; afterId: string | undefined },
): Promise<string[]> {
  const { count, afterId } = look;
  const rows = await db
    .selectFrom('user_roles')
    .select('user_id')
    .where('role_name', '=', role)
    .$if(afterId !== undefined, (query) => query.where('user_id', '<', afterId ?? ''))
    .orderBy('user_id', 'desc')
    .limit(count)
    .execute();
  return rows.map((row) => row.user_id);
}

// Of two tables one after the other and never joined: a join of a page with a million users is planned well only while
// the statistics are fresh.
/** Says which of these users have a status. */
export async function pickByStatus(db: Db, ids: readonly string[], status: UserRow['status']): Promise<Set<string>> {
  // The status is compared here: SQLite would take it for what narrows the search, and read everybody who has it.
  const rows = await db.selectFrom('users').select(['id', 'status']).where('id', 'in', ids).execute();
  return new Set(rows.flatMap((row) => (row.status === status ? row.id : [])));
}

/** Says which of these users have a role. */
export async function pickByRole(db: Db, ids: readonly string[], role: string): Promise<Set<string>> {
  const query = db.selectFrom('user_roles').select('user_id').where('user_id', 'in', ids).where('role_name', '=', role);
  return new Set((await query.execute()).map((row) => row.user_id));
}

/** Reads several users, in no order. */
export function findUserRows(db: Db, ids: readonly string[]): Promise<UserRow[]> {
  return db.selectFrom('users').selectAll().where('id', 'in', ids).execute();
}

/** Reads the names of the roles of several users, in no order. */
export function listRoleNamesOf(db: Db, userIds: readonly string[]): Promise<{ user_id: string; role_name: string }[]> {
  return db.selectFrom('user_roles').selectAll().where('user_id', 'in', userIds).execute();
}
