import type { Db, NewUserRow } from '../db/schema.ts';

/** Adds a user. Fails with a unique violation when the address is taken. */
export async function insertUser(db: Db, row: NewUserRow): Promise<void> {
  await db.insertInto('users').values(row).execute();
}

/** Gives a new user their first role. */
export async function insertUserRole(db: Db, userId: string, roleName: string): Promise<void> {
  await db.insertInto('user_roles').values({ user_id: userId, role_name: roleName }).execute();
}
