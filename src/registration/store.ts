import type { Db, NewUserRow, UserRow } from '../db/schema.ts';

/** Adds a user. Fails with a unique violation when the address is taken. */
export async function insertUser(db: Db, row: NewUserRow): Promise<void> {
  await db.insertInto('users').values(row).execute();
}

/** Gives a new user their first role. */
export async function insertUserRole(db: Db, userId: string, roleName: string): Promise<void> {
  await db.insertInto('user_roles').values({ user_id: userId, role_name: roleName }).execute();
}

type Activation = Partial<Pick<UserRow, 'name' | 'locale' | 'metadata'>> & { password_hash: string };

/**
 * Makes the invited account of an address its owner's, keeping its id and roles. Returns the id, or undefined when
 * nobody is invited at the address, or no longer with a proof from that time.
 */
export async function activateInvited(
  db: Db,
  proof: { email: string; sentAtMs: number },
  columns: Activation,
  nowMs: number,
): Promise<string | undefined> {
  const row = await db
    .updateTable('users')
    .set({ ...columns, status: 'active', updated_at: nowMs, last_login_at: nowMs })
    .where('email', '=', proof.email)
    .where('status', '=', 'invited')
    .where('proofs_valid_from', '<', proof.sentAtMs)
    .returning('id')
    .executeTakeFirst();
  return row?.id;
}
