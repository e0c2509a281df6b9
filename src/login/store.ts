import type { Db, UserRow } from '../db/schema.ts';

/** What a login must know of an account. */
export type LoginCandidate = Pick<UserRow, 'id' | 'status' | 'password_hash'>;

/** Finds the account at a canonical address. */
export function findCandidate(db: Db, email: string): Promise<LoginCandidate | undefined> {
  return db.selectFrom('users').select(['id', 'status', 'password_hash']).where('email', '=', email).executeTakeFirst();
}

/**
 * Notes a login if the account is still as it was checked: active and with the same password hash. Returns
 * false when it was disabled, deleted or given another password in the meantime.
 */
export async function recordLogin(db: Db, candidate: LoginCandidate, nowMs: number): Promise<boolean> {
  const result = await db
    .updateTable('users')
    .set({ last_login_at: nowMs })
    .where('id', '=', candidate.id)
    .where('status', '=', 'active')
    .where('password_hash', candidate.password_hash === null ? 'is' : '=', candidate.password_hash)
    .executeTakeFirst();
  return result.numUpdatedRows === 1n;
}

/** Replaces an outdated hash of an unchanged password. A password that was changed meanwhile is left alone. */
export async function replaceOutdatedHash(
  db: Db,
  change: { userId: string; oldHash: string; newHash: string },
): Promise<void> {
  await db
    .updateTable('users')
    .set({ password_hash: change.newHash })
    .where('id', '=', change.userId)
    .where('password_hash', '=', change.oldHash)
    .execute();
}
