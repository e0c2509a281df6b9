import type { Db, UserRow } from '../db/schema.ts';

/** What changing a password must know of the account. */
export type PasswordOwner = Pick<UserRow, 'id' | 'email' | 'locale' | 'password_hash'>;

/** Reads the account whose password is to change. */
export function findPasswordOwner(db: Db, userId: string): Promise<PasswordOwner | undefined> {
  return db
    .selectFrom('users')
    .select(['id', 'email', 'locale', 'password_hash'])
    .where('id', '=', userId)
    .executeTakeFirst();
}

/** Replaces a hash if it is still the one that was checked. Returns false when another change was faster. */
export async function replacePasswordHash(
  db: Db,
  change: { userId: string; oldHash: string | null; newHash: string; nowMs: number },
): Promise<boolean> {
  const result = await db
    .updateTable('users')
    .set({ password_hash: change.newHash, updated_at: change.nowMs })
    .where('id', '=', change.userId)
    .where('password_hash', change.oldHash === null ? 'is' : '=', change.oldHash)
    .executeTakeFirst();
  return result.numUpdatedRows === 1n;
}
