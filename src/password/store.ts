import type { Db, UserRow } from '../db/schema.ts';

/** What changing a password must know of the account. */
export type PasswordOwner = Pick<UserRow, 'id' | 'email' | 'locale' | 'status' | 'password_hash' | 'proofs_valid_from'>;

/** Reads the account whose password is to change. */
export function findPasswordOwner(db: Db, userId: string): Promise<PasswordOwner | undefined> {
  return db
    .selectFrom('users')
    .select(['id', 'email', 'locale', 'status', 'password_hash', 'proofs_valid_from'])
    .where('id', '=', userId)
    .executeTakeFirst();
}

/** Replaces a hash if it is still the one that was checked; older proofs of the address die with it. Returns false when another change was faster. */
export async function replacePasswordHash(
  db: Db,
  change: { userId: string; oldHash: string | null; newHash: string; nowMs: number },
): Promise<boolean> {
  const result = await db
    .updateTable('users')
    .set({ password_hash: change.newHash, updated_at: change.nowMs, proofs_valid_from: change.nowMs })
    .where('id', '=', change.userId)
    .where('password_hash', change.oldHash === null ? 'is' : '=', change.oldHash)
    .executeTakeFirst();
  return result.numUpdatedRows === 1n;
}

/** Finds whose password an address resets. */
export function findResetOwner(
  db: Db,
  email: string,
): Promise<Pick<PasswordOwner, 'id' | 'email' | 'locale'> | undefined> {
  return db.selectFrom('users').select(['id', 'email', 'locale']).where('email', '=', email).executeTakeFirst();
}

/**
 * Sets the hash of an active account whatever it was. Returns false when the account is gone or disabled, has another
 * address than the one that was proved, or no longer takes proofs from that time. Older proofs die with it.
 */
export async function setPasswordHash(
  db: Db,
  change: { userId: string; email: string; proofSentAtMs: number; newHash: string; nowMs: number },
): Promise<boolean> {
  const result = await db
    .updateTable('users')
    .set({ password_hash: change.newHash, updated_at: change.nowMs, proofs_valid_from: change.nowMs })
    .where('id', '=', change.userId)
    .where('email', '=', change.email)
    .where('proofs_valid_from', '<', change.proofSentAtMs)
    .where('status', '=', 'active')
    .executeTakeFirst();
  return result.numUpdatedRows === 1n;
}
