import type { Db, UserRow } from '../db/schema.ts';

/** What a login must know of an account. */
export type LoginCandidate = Pick<
  UserRow,
  'id' | 'email' | 'locale' | 'status' | 'password_hash' | 'proofs_valid_from'
>;

/** Finds the account at a canonical address. */
export function findCandidate(db: Db, email: string): Promise<LoginCandidate | undefined> {
  return selectCandidate(db).where('email', '=', email).executeTakeFirst();
}

/** Reads the account of somebody who is logged in. */
export function findCandidateById(db: Db, userId: string): Promise<LoginCandidate | undefined> {
  return selectCandidate(db).where('id', '=', userId).executeTakeFirst();
}

function selectCandidate(db: Db) {
  return db.selectFrom('users').select(['id', 'email', 'locale', 'status', 'password_hash', 'proofs_valid_from']);
}

/**
 * Notes a login if the account is still as it was checked: active, with the same address and password hash, and still
 * taking proofs from when the code was sent.
 * Returns false when it was disabled, deleted, moved or given another password in the meantime.
 */
export async function recordLogin(
  db: Db,
  candidate: LoginCandidate,
  login: { nowMs: number; proofSentAtMs?: number | undefined },
): Promise<boolean> {
  return updateIfUnchanged(db, candidate, { last_login_at: login.nowMs }, login.proofSentAtMs);
}

/**
 * Holds an account still for the rest of the transaction if it is as it was checked. A plain read would not do: on
 * PostgreSQL the account could change between it and the write that follows.
 */
export async function lockIfUnchanged(db: Db, candidate: LoginCandidate, proofSentAtMs?: number): Promise<boolean> {
  return updateIfUnchanged(db, candidate, { email: candidate.email }, proofSentAtMs);
}

async function updateIfUnchanged(
  db: Db,
  candidate: LoginCandidate,
  columns: { last_login_at: number } | { email: string },
  proofSentAtMs: number | undefined,
): Promise<boolean> {
  const result = await db
    .updateTable('users')
    .set(columns)
    .where('id', '=', candidate.id)
    .where('email', '=', candidate.email)
    .where('status', '=', 'active')
    .where('password_hash', candidate.password_hash === null ? 'is' : '=', candidate.password_hash)
    .$if(proofSentAtMs !== undefined, (query) => query.where('proofs_valid_from', '<', proofSentAtMs ?? 0))
    .executeTakeFirst();
  return result.numUpdatedRows === 1n;
}

/** Holds a user's row still for the rest of the transaction. Returns false when there is none. */
export async function lockUser(db: Db, userId: string): Promise<boolean> {
  const result = await db
    .updateTable('users')
    .set((eb) => ({ email: eb.ref('email') }))
    .where('id', '=', userId)
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
