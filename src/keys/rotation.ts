import { recordEvent } from '../audit/flow.ts';
import { generateSigningKey } from '../crypto/signing-key.ts';
import { inTransaction } from '../db/database.ts';
import type { Deps } from '../deps.ts';
import { insertSigningKey, listSigningKeys, lockSigningKeys, moveSigningKey, type SigningKeyRecord } from './store.ts';

/** What a rotation changed, by key id. */
export type KeyRotation = { activated: string; retired: string; next: string };

/** Which keys are rotated: those that have signed for this long. The operator is who asked for it, if anybody did. */
type RotationOptions = { olderThanMs?: number; operator?: string };

/**
 * Rotates the signing keys: the next one, which verifiers have known since it was made, signs from now on; the active
 * one retires and verifies until its last token has expired; a new next one is made. Returns undefined when the active
 * key is younger than asked for, or another instance was first.
 */
export async function rotateSigningKeys(
  deps: Deps,
  { olderThanMs = 0, operator }: RotationOptions = {},
): Promise<KeyRotation | undefined> {
  const before = findActive(await listSigningKeys(deps.db));
  const fresh = await generateSigningKey(deps.keyring);
  const rotation = await inTransaction(deps.db, async (tx) => {
    await lockSigningKeys(tx);
    const nowMs = deps.clock.now();
    const records = await listSigningKeys(tx);
    const active = findActive(records);
    const next = records.find(({ state }) => state === 'next');
    if (active === undefined || next === undefined) throw new Error('there is no active or no next signing key');
    // Another rotation was first, and one is what both were asked for.
    if (active.kid !== before?.kid) return undefined;
    if ((active.activatedAtMs ?? 0) > nowMs - olderThanMs) return undefined;
    await moveSigningKey(tx, active.kid, { from: 'active', to: 'retired', nowMs });
    await moveSigningKey(tx, next.kid, { from: 'next', to: 'active', nowMs });
    await insertSigningKey(tx, { ...fresh, state: 'next' }, nowMs);
    const changed = { activated: next.kid, retired: active.kid, next: fresh.kid };
    const details = { ...changed, operator: operator ?? '' };
    await recordEvent(tx, { type: 'keys.rotated', userId: null, details }, undefined, nowMs);
    return changed;
  });
  if (rotation !== undefined) await deps.signingKeys.reload();
  return rotation;
}

function findActive(records: readonly SigningKeyRecord[]): SigningKeyRecord | undefined {
  return records.find(({ state }) => state === 'active');
}
