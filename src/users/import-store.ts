import type { Db, NewUserRow, UserRow } from '../db/schema.ts';

/** What an import must know of an account that is there. */
export type ExistingUser = Pick<UserRow, 'id' | 'email' | 'name' | 'locale' | 'metadata' | 'password_hash'>;

/** What an import may change of an account that is there. */
export type ImportedChange = Partial<Pick<UserRow, 'name' | 'locale' | 'metadata' | 'password_hash'>>;

/** Finds the accounts at these addresses or with these ids. */
export async function findExistingUsers(
  db: Db,
  emails: readonly string[],
  ids: readonly string[],
): Promise<ExistingUser[]> {
  const select = () => db.selectFrom('users').select(['id', 'email', 'name', 'locale', 'metadata', 'password_hash']);
  const byEmail = emails.length === 0 ? [] : await select().where('email', 'in', emails).execute();
  const byId = ids.length === 0 ? [] : await select().where('id', 'in', ids).execute();
  return [...byEmail, ...byId];
}

/** Adds users, but none whose address or id is taken by now. Returns the ids of those that it added. */
export async function insertImportedUsers(db: Db, rows: readonly NewUserRow[]): Promise<Set<string>> {
  const added = await db
    .insertInto('users')
    .values([...rows])
    .onConflict((conflict) => conflict.doNothing())
    .returning('id')
    .execute();
  return new Set(added.map(({ id }) => id));
}

/** Gives users their roles. */
export async function insertUserRoles(db: Db, rows: readonly { user_id: string; role_name: string }[]): Promise<void> {
  await db
    .insertInto('user_roles')
    .values([...rows])
    .execute();
}

/** Changes an account if its password is still the one that was read. Returns false when it is not. */
export async function updateImportedUser(
  db: Db,
  user: ExistingUser,
  change: ImportedChange & { updated_at: number },
): Promise<boolean> {
  const result = await db
    .updateTable('users')
    .set(change)
    .where('id', '=', user.id)
    .where('password_hash', user.password_hash === null ? 'is' : '=', user.password_hash)
    .executeTakeFirst();
  return result.numUpdatedRows === 1n;
}

/** Lists every role with its permissions, as JSON. */
export function listRoles(db: Db): Promise<{ name: string; permissions: string }[]> {
  return db.selectFrom('roles').select(['name', 'permissions']).execute();
}

/** Reads users in the order of their ids, after one of them. */
export function listUsersAfter(db: Db, id: string, limit: number): Promise<UserRow[]> {
  return db.selectFrom('users').selectAll().where('id', '>', id).orderBy('id').limit(limit).execute();
}

/** Lists the roles of these users, in alphabetical order. */
export function listRolesOfUsers(db: Db, ids: readonly string[]): Promise<{ user_id: string; role_name: string }[]> {
  return db
    .selectFrom('user_roles')
    .select(['user_id', 'role_name'])
    .where('user_id', 'in', ids)
    .orderBy('role_name')
    .execute();
}
