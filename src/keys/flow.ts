import { recordEvent } from '../audit/flow.ts';
import { type Keyring, sealedUnder } from '../crypto/secrets.ts';
import { canOpen, generateSigningKey, isSealedUnderCurrent, resealSigningKey } from '../crypto/signing-key.ts';
import { inTransaction } from '../db/database.ts';
import { isUniqueViolation } from '../db/failures.ts';
import type { Db } from '../db/schema.ts';
import { holdSigningKeys, type LoadedSigningKeys } from './loaded-keys.ts';
import {
  insertSigningKey,
  listSecretFingerprints,
  listSigningKeys,
  rememberSecretFingerprint,
  type SigningKeyRecord,
  updateSealedKey,
} from './store.ts';

/** Thrown when SECRET_KEY is not the one under which this database was made. */
export class WrongSecretError extends Error {
  override readonly name = 'WrongSecretError';
}

/** Where a signing key is in its life. */
export type SigningKeyState = SigningKeyRecord['state'];

/** A signing key as an operator sees it: nothing that could sign. Times are undefined for what has not happened. */
export type SigningKeyInfo = {
  kid: string;
  state: SigningKeyState;
  createdAtMs: number;
  activatedAtMs: number | undefined;
  retiredAtMs: number | undefined;
  /** Names the value of SECRET_KEY under which its private part is sealed. */
  sealedUnder: string | undefined;
};

/** Lists the signing keys, the oldest first. */
export async function listSigningKeyInfo(db: Db): Promise<SigningKeyInfo[]> {
  const records = await listSigningKeys(db);
  return records.map((record) => ({
    kid: record.kid,
    state: record.state,
    createdAtMs: record.createdAtMs,
    activatedAtMs: record.activatedAtMs ?? undefined,
    retiredAtMs: record.retiredAtMs ?? undefined,
    sealedUnder: sealedUnder(record.sealedPrivateJwk),
  }));
}

/**
 * Stops a boot under a foreign SECRET_KEY before it can write anything under it. A new secret is accepted
 * when the list that it heads still holds one that the database knows.
 */
export async function checkSecretFingerprint(db: Db, keyring: Keyring): Promise<void> {
  const known = await listSecretFingerprints(db);
  const isKnown = keyring.all.some((root) => known.includes(root.fingerprint));
  if (known.length > 0 && !isKnown) {
    throw new WrongSecretError(
      'SECRET_KEY is not the one that this database was made with: its passwords, sessions and signing keys ' +
        'cannot be read. Give the old value back, or append it after a comma to rotate it.',
    );
  }
}

/** Remembers the secrets under which a boot succeeded. One that comes to those of an earlier boot is an event. */
export async function rememberSecrets(db: Db, keyring: Keyring, nowMs: number): Promise<void> {
  const known = await listSecretFingerprints(db);
  for (const { fingerprint } of keyring.all) {
    if (known.includes(fingerprint)) continue;
    await inTransaction(db, async (tx) => {
      const isNew = await rememberSecretFingerprint(tx, fingerprint, nowMs);
      if (!isNew || known.length === 0) return;
      await recordEvent(tx, { type: 'secret.added', userId: null, details: { fingerprint } }, undefined, nowMs);
    });
  }
}

/** Loads the signing keys, making the first active and next one where they are missing. */
export async function loadSigningKeys(
  db: Db,
  keyring: Keyring,
  now: () => number,
  onFailure: (error: unknown) => void,
): Promise<LoadedSigningKeys> {
  await ensureKey(db, keyring, 'active', now());
  await ensureKey(db, keyring, 'next', now());
  const records = await listSigningKeys(db);
  requireReadable(keyring, records);
  await resealUnderCurrent(db, keyring, records);
  return holdSigningKeys({ db, keyring, now, onFailure }, records);
}

async function ensureKey(db: Db, keyring: Keyring, state: 'active' | 'next', nowMs: number): Promise<void> {
  const records = await listSigningKeys(db);
  if (records.some((record) => record.state === state)) return;
  try {
    await insertSigningKey(db, { ...(await generateSigningKey(keyring)), state }, nowMs);
  } catch (error) {
    // Another instance that starts at the same time was first; its key is as good.
    if (!isUniqueViolation(error)) throw error;
  }
}

function requireReadable(keyring: Keyring, records: readonly SigningKeyRecord[]): void {
  if (records.every((record) => canOpen(keyring, record))) return;
  throw new WrongSecretError(
    'The signing keys are sealed under a value of SECRET_KEY that is not given: it was rotated and then taken back. ' +
      'Start once with both: append the newer value to SECRET_KEY after a comma.',
  );
}

/** After a rotation of SECRET_KEY the boot seals every key anew, so that the old value can be taken away next. */
async function resealUnderCurrent(db: Db, keyring: Keyring, records: readonly SigningKeyRecord[]): Promise<void> {
  for (const record of records.filter((key) => !isSealedUnderCurrent(keyring, key))) {
    const sealed = { from: record.sealedPrivateJwk, to: resealSigningKey(keyring, record) };
    await updateSealedKey(db, record.kid, sealed);
  }
}
