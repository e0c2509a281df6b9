import type { Db, NewUserRow, UserRow } from '../db/schema.ts';
import type { PagePosition } from '../paging.ts';

/** Which users are asked for. What is undefined does not matter. */
export type UserFilter = { status?: UserRow['status'] | undefined; role?: string | undefined };

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
  { status }: Pick<UserFilter, 'status'>,
  page: { limit: number; after: PagePosition | undefined },
): Promise<UserRow[]> {
  const { after, limit } = page;
  return db
    .selectFrom('users')
    .selectAll()
    .$if(status !== undefined, (query) => query.where('status', '=', status ?? 'active'))
    .$if(after !== undefined, (query) =>
      query.where(({ eb, refTuple, tuple }) =>
        eb(refTuple('created_at', 'id'), '<', tuple(after?.atMs ?? 0, after?.id ?? '')),
      ),
    )
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .limit(limit + 1)
    .execute();
}

/**
 * Lists the users who have a role by their ids, whose order is that of their making. Reads one more than the page holds.
 */
export function listUsersByRole(
  db: Db,
  { status, role }: UserFilter & { role: string },
  page: { limit: number; afterId: string | undefined },
): Promise<UserRow[]> {
  const { afterId, limit } = page;
  return db
    .selectFrom('user_roles')
    .innerJoin('users', 'users.id', 'user_roles.user_id')
    .selectAll('users')
    .where('user_roles.role_name', '=', role)
    .$if(status !== undefined, (query) => query.where('users.status', '=', status ?? 'active'))
    .$if(afterId !== undefined, (query) => query.where('user_roles.user_id', '<', afterId ?? ''))
    .orderBy('user_roles.user_id', 'desc')
    .limit(limit + 1)
    .execute();
}

/** Lists the users whose address begins so, in the order of their addresses. Reads one more than the page holds. */
export function listUsersByAddress(
  db: Db,
  prefix: string,
  { status, role }: UserFilter,
  page: { limit: number; afterEmail: string | undefined },
): Promise<UserRow[]> {
  const { afterEmail, limit } = page;
  return (
    db
      .selectFrom('users')
      .selectAll()
      .where('email', '>=', prefix)
      // Addresses are ASCII, and this is behind every one that begins so.
      .where('email', '<', `${prefix}\u007f`)
      .$if(afterEmail !== undefined, (query) => query.where('email', '>', afterEmail ?? ''))
      .$if(status !== undefined, (query) => query.where('status', '=', status ?? 'active'))
      .$if(role !== undefined, (query) =>
        query.where(({ exists, selectFrom }) =>
          exists(
            selectFrom('user_roles')
              .select('user_roles.user_id')
              .whereRef('user_roles.user_id', '=', 'users.id')
              .where('user_roles.role_name', '=', role ?? ''),
          ),
        ),
      )
      .orderBy('email')
      .limit(limit + 1)
      .execute()
  );
}

/** Reads the names of the roles of several users, in alphabetical order. */
export function listRoleNamesOf(db: Db, userIds: readonly string[]): Promise<{ user_id: string; role_name: string }[]> {
  return db.selectFrom('user_roles').selectAll().where('user_id', 'in', userIds).orderBy('role_name').execute();
}
