import type { Db, UserRow } from '../db/schema.ts';

/** Reads a user. */
export function findUser(db: Db, userId: string): Promise<UserRow | undefined> {
  return db.selectFrom('users').selectAll().where('id', '=', userId).executeTakeFirst();
}

/** Lists the names of a user's roles in alphabetical order. */
export async function listRoleNames(db: Db, userId: string): Promise<string[]> {
  const rows = await db
    .selectFrom('user_roles')
    .select('role_name')
    .where('user_id', '=', userId)
    .orderBy('role_name')
    .execute();
  return rows.map((row) => row.role_name);
}

type ProfileChange = Partial<Pick<UserRow, 'name' | 'locale' | 'metadata'>> & { updated_at: number };

/** Changes a user's profile. Returns false when the user is gone. */
export async function updateProfile(db: Db, userId: string, change: ProfileChange): Promise<boolean> {
  const result = await db.updateTable('users').set(change).where('id', '=', userId).executeTakeFirst();
  return result.numUpdatedRows === 1n;
}

/** Deletes a user; sessions, roles and waiting mail go with the row. Returns false when the user was gone. */
export async function deleteUser(db: Db, userId: string): Promise<boolean> {
  const result = await db.deleteFrom('users').where('id', '=', userId).executeTakeFirst();
  return result.numDeletedRows === 1n;
}
