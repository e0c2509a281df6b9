import type { Db, UserRow } from '../db/schema.ts';

/** What a login must know of an account. */
export type LoginCandidate = Pick<UserRow, 'id' | 'email' | 'locale' | 'status' | 'password_hash'>;

/** Finds the account at a canonical address. */
export function findCandidate(db: Db, email: string): Promise<LoginCandidate | undefined> {
  return selectCandidate(db).where('email', '=', email).executeTakeFirst();
}

/** Reads the account of somebody who is logged in. */
export function findCandidateById(db: Db, userId: string): Promise<LoginCandidate | undefined> {
  return selectCandidate(db).where('id', '=', userId).executeTakeFirst();
}

function selectCandidate(db: Db) {
  return db.selectFrom('users').select(['id', 'email', 'locale', 'status', 'password_hash']);
}

/**
 * Notes a login if the account is still as it was checked: active, with the same address and password hash.
 * Returns false when it was disabled, deleted, moved or given another password in the meantime.
 */
export async function recordLogin(db: Db, candidate: LoginCandidate, nowMs: number): Promise<boolean> {
  const result = await db
    .updateTable('users')
    .set({ last_login_at: nowMs })
    .where('id', '=', candidate.id)
    .where('email', '=', candidate.email)
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

/** Says whether an account still has the address, the password and the active status that were checked. */
export async function isUnchanged(db: Db, candidate: LoginCandidate): Promise<boolean> {
  const current = await findCandidateById(db, candidate.id);
  return (
    current?.status === 'active' &&
    current.email === candidate.email &&
    current.password_hash === candidate.password_hash
  );
}
