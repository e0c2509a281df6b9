import type { Db, PendingEmailChangeRow, UserRow } from '../db/schema.ts';

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

/** Holds a user's row still for the rest of the transaction. Returns it, or undefined when there is none. */
export function lockUser(db: Db, userId: string): Promise<UserRow | undefined> {
  return db
    .updateTable('users')
    .set((eb) => ({ email: eb.ref('email') }))
    .where('id', '=', userId)
    .returningAll()
    .executeTakeFirst();
}

/** Deletes a user; sessions, roles and waiting mail go with the row. Returns the address, or undefined when it was gone. */
export async function deleteUser(db: Db, userId: string): Promise<string | undefined> {
  const row = await db.deleteFrom('users').where('id', '=', userId).returning('email').executeTakeFirst();
  return row?.email;
}

/** Sets the address that a user may change to, replacing the one before. */
export async function putPendingEmailChange(db: Db, row: PendingEmailChangeRow): Promise<void> {
  const { user_id: _key, ...columns } = row;
  await db
    .insertInto('pending_email_changes')
    .values(row)
    .onConflict((conflict) => conflict.column('user_id').doUpdateSet(columns))
    .execute();
}

/** Reads the address that a user is changing to. */
export function findPendingEmailChange(
  db: Db,
  userId: string,
  nowMs: number,
): Promise<PendingEmailChangeRow | undefined> {
  return db
    .selectFrom('pending_email_changes')
    .selectAll()
    .where('user_id', '=', userId)
    .where('expires_at', '>', nowMs)
    .executeTakeFirst();
}

/** Uses up the permission to change to this address. Returns false when there is none. */
export async function takePendingEmailChange(db: Db, userId: string, email: string, nowMs: number): Promise<boolean> {
  const result = await db
    .deleteFrom('pending_email_changes')
    .where('user_id', '=', userId)
    .where('email', '=', email)
    .where('expires_at', '>', nowMs)
    .executeTakeFirst();
  return result.numDeletedRows === 1n;
}

/** Sets a user's address. Returns false when the user is gone. Fails with a unique violation when another account has it. */
export async function updateEmail(db: Db, userId: string, email: string, nowMs: number): Promise<boolean> {
  const query = db
    .updateTable('users')
    .set({ email, updated_at: nowMs, proofs_valid_from: nowMs })
    .where('id', '=', userId);
  return (await query.executeTakeFirst()).numUpdatedRows === 1n;
}

/** Cancels a change of address that is under way. */
export async function deletePendingEmailChange(db: Db, userId: string): Promise<void> {
  await db.deleteFrom('pending_email_changes').where('user_id', '=', userId).execute();
}
