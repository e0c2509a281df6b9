import { PostgresAdapter } from 'kysely';
import type { PublicJwk, StoredSigningKey } from '../crypto/signing-key.ts';
import type { Db, SigningKeyRow } from '../db/schema.ts';

/** A signing key with its place in the rotation. */
export type SigningKeyRecord = StoredSigningKey & {
  state: SigningKeyRow['state'];
  /** Since when it signs, or signed; null for one that never did. */
  activatedAtMs: number | null;
  createdAtMs: number;
  retiredAtMs: number | null;
};

/**
 * Waits until no other transaction changes the keys, and keeps others waiting until this one ends. List them after it:
 * only then is what they have made seen.
 */
export async function lockSigningKeys(db: Db): Promise<void> {
  // SQLite has one writer at a time.
  if (!(db.getExecutor().adapter instanceof PostgresAdapter)) return;
  await db.selectFrom('signing_keys').select('kid').orderBy('kid').forUpdate().execute();
}

/** Lists every key, the oldest first. */
export async function listSigningKeys(db: Db): Promise<SigningKeyRecord[]> {
  const rows = await db.selectFrom('signing_keys').selectAll().orderBy('created_at').orderBy('kid').execute();
  return rows.map((row) => ({
    kid: row.kid,
    state: row.state,
    publicJwk: JSON.parse(row.public_jwk) as PublicJwk,
    sealedPrivateJwk: row.sealed_private_jwk,
    activatedAtMs: row.activated_at,
    createdAtMs: row.created_at,
    retiredAtMs: row.retired_at,
  }));
}

/** Adds a key. Fails with a unique violation when the state it takes is taken. */
export async function insertSigningKey(
  db: Db,
  key: StoredSigningKey & { state: SigningKeyRow['state'] },
  nowMs: number,
): Promise<void> {
  await db
    .insertInto('signing_keys')
    .values({
      kid: key.kid,
      state: key.state,
      public_jwk: JSON.stringify(key.publicJwk),
      sealed_private_jwk: key.sealedPrivateJwk,
      created_at: nowMs,
      activated_at: key.state === 'active' ? nowMs : null,
      retired_at: null,
    })
    .execute();
}

/** Moves a key to its next state if it is still in the one before. Returns false when it is not. */
export async function moveSigningKey(
  db: Db,
  kid: string,
  { from, to, nowMs }: { from: 'active' | 'next'; to: 'retired' | 'active'; nowMs: number },
): Promise<boolean> {
  const result = await db
    .updateTable('signing_keys')
    .set({ state: to, ...(to === 'active' ? { activated_at: nowMs } : { retired_at: nowMs }) })
    .where('kid', '=', kid)
    .where('state', '=', from)
    .executeTakeFirst();
  return result.numUpdatedRows === 1n;
}

/** Removes a key. Returns false when it is not there. */
export async function deleteSigningKey(db: Db, kid: string): Promise<boolean> {
  const result = await db.deleteFrom('signing_keys').where('kid', '=', kid).executeTakeFirst();
  return result.numDeletedRows === 1n;
}

/** Replaces the sealed private part of a key with the same one sealed anew. */
export async function updateSealedKey(db: Db, kid: string, sealed: { from: string; to: string }): Promise<void> {
  await db
    .updateTable('signing_keys')
    .set({ sealed_private_jwk: sealed.to })
    .where('kid', '=', kid)
    .where('sealed_private_jwk', '=', sealed.from)
    .execute();
}

/** Lists the fingerprints of the secrets that this database has worked with. */
export async function listSecretFingerprints(db: Db): Promise<string[]> {
  const rows = await db.selectFrom('secret_fingerprints').select('fingerprint').execute();
  return rows.map((row) => row.fingerprint);
}

/** Remembers a secret's fingerprint; one that is known stays as it is. Returns whether it is new. */
export async function rememberSecretFingerprint(db: Db, fingerprint: string, nowMs: number): Promise<boolean> {
  const result = await db
    .insertInto('secret_fingerprints')
    .values({ fingerprint, first_seen_at: nowMs })
    .onConflict((conflict) => conflict.column('fingerprint').doNothing())
    .executeTakeFirst();
  return (result.numInsertedOrUpdatedRows ?? 0n) > 0n;
}
