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
  { prefix, status }: AddressSearch,
  page: { limit: number; afterEmail: string | undefined },
): Promise<UserRow[]> {
  return selectByAddress(db, { prefix, status }, page.afterEmail)
    .selectAll('users')
    .limit(page.limit + 1)
    .execute();
}

/** Where addresses begin so: in the order of addresses, so many users, and whether each has a role. */
export function lookAtAddresses(
  db: Db,
  { prefix, status, role }: AddressSearch & { role: string },
  look: { count: number; afterEmail: string | undefined },
): Promise<{ id: string; email: string; role_name: string | null }[]> {
  return selectByAddress(db, { prefix, status }, look.afterEmail)
    .leftJoin('user_roles', (join) =>
      join.onRef('user_roles.user_id', '=', 'users.id').on('user_roles.role_name', '=', role),
    )
    .select(['users.id', 'users.email', 'user_roles.role_name'])
    .limit(look.count)
    .execute();
}

type AddressSearch = { prefix: string; status: UserRow['status'] | undefined };

function selectByAddress(db: Db, { prefix, status }: AddressSearch, afterEmail: string | undefined) {
  return (
    db
      .selectFrom('users')
      .where('users.email', '>=', prefix)
      // Addresses are ASCII, and this is behind every one that begins so.
      .where('users.email', '<', `${prefix}\u007f`)
      .$if(afterEmail !== undefined, (query) => query.where('users.email', '>', afterEmail ?? ''))
      .$if(status !== undefined, (query) => query.where('users.status', '=', status ?? 'active'))
      .orderBy('users.email')
  );
}

/** Of those who have a role, so many, by their ids, whose order is that of their making: the newest first. */
export function lookAtHolders(
  db: Db,
  role: string,
  look: { count: number; afterId: string | undefined },
): Promise<Pick<UserRow, 'id' | 'status' | 'created_at'>[]> {
  const { count, afterId } = look;
  return db
    .selectFrom('user_roles')
    .innerJoin('users', 'users.id', 'user_roles.user_id')
    .select(['users.id', 'users.status', 'users.created_at'])
    .where('user_roles.role_name', '=', role)
    .$if(afterId !== undefined, (query) => query.where('user_roles.user_id', '<', afterId ?? ''))
    .orderBy('user_roles.user_id', 'desc')
    .limit(count)
    .execute();
}

/** Reads several users, in no order. */
export function findUserRows(db: Db, ids: readonly string[]): Promise<UserRow[]> {
  return db.selectFrom('users').selectAll().where('id', 'in', ids).execute();
}

/** Reads the names of the roles of several users, in alphabetical order. */
export function listRoleNamesOf(db: Db, userIds: readonly string[]): Promise<{ user_id: string; role_name: string }[]> {
  return db.selectFrom('user_roles').selectAll().where('user_id', 'in', userIds).orderBy('role_name').execute();
}
