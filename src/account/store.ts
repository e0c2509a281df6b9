import { prepareQuery } from '../db/prepared.ts';
import type { Db, PendingEmailChangeRow, UserRow } from '../db/schema.ts';

// One row for each role, and one when there is none.
const userWithRoles = prepareQuery((db, { userId }: { userId: string }) =>
  db
    .selectFrom('users')
    .leftJoin('user_roles', 'user_roles.user_id', 'users.id')
    .selectAll('users')
    .select('user_roles.role_name')
    .where('users.id', '=', userId)
    .orderBy('user_roles.role_name'),
);

/** Reads a user and the names of their roles, in alphabetical order, in one query. */
export async function findUserWithRoles(
  db: Db,
  userId: string,
): Promise<{ user: UserRow; roles: string[] } | undefined> {
  const { rows } = await userWithRoles(db, { userId });
  const [first] = rows;
  if (first === undefined) return undefined;
  const { role_name: _role, ...user } = first;
  return { user, roles: rows.flatMap(({ role_name: name }) => name ?? []) };
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

/** Cancels a change of address. Returns whether one was under way; one that had expired is removed too. */
export async function deletePendingEmailChange(db: Db, userId: string, nowMs: number): Promise<boolean> {
  const row = await db
    .deleteFrom('pending_email_changes')
    .where('user_id', '=', userId)
    .returning('expires_at')
    .executeTakeFirst();
  return row !== undefined && row.expires_at > nowMs;
}
