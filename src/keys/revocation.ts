import { recordEvent } from '../audit/flow.ts';
import { generateSigningKey } from '../crypto/signing-key.ts';
import { inTransaction } from '../db/database.ts';
import type { Deps } from '../deps.ts';
import type { SigningKeyState } from './flow.ts';
import { deleteSigningKey, insertSigningKey, listSigningKeys, lockSigningKeys, moveSigningKey } from './store.ts';

/** What a revocation changed, by key id: `activated` and `next` are there where another key had to take a place. */
export type KeyRevocation = { revoked: string; state: SigningKeyState; activated?: string; next?: string };

/**
 * Revokes a signing key that may be in somebody's hands: it is removed, and every instance refuses its tokens from the
 * next second on. Where it was the active one, the next key signs at once; sessions live on, and clients refresh to
 * tokens of that key. Returns undefined when there is no such key.
 */
export async function revokeSigningKey(deps: Deps, kid: string, operator: string): Promise<KeyRevocation | undefined> {
  const fresh = await generateSigningKey(deps.keyring);
  const revocation = await inTransaction(deps.db, async (tx) => {
    await lockSigningKeys(tx);
    const nowMs = deps.clock.now();
    const records = await listSigningKeys(tx);
    const revoked = records.find((record) => record.kid === kid);
    const next = records.find(({ state }) => state === 'next');
    // The row goes rather than to a state of its own: nothing that could sign is left, and the event keeps the id.
    if (revoked === undefined || !(await deleteSigningKey(tx, kid))) return undefined;
    const changed: KeyRevocation = { revoked: kid, state: revoked.state };
    if (revoked.state === 'active') {
      if (next === undefined) throw new Error('there is no next signing key');
      await moveSigningKey(tx, next.kid, { from: 'next', to: 'active', nowMs });
      changed.activated = next.kid;
    }
    if (revoked.state !== 'retired') {
      await insertSigningKey(tx, { ...fresh, state: 'next' }, nowMs);
      changed.next = fresh.kid;
    }
    const details = { activated: '', next: '', ...changed, operator };
    await recordEvent(tx, { type: 'keys.revoked', userId: null, details }, undefined, nowMs);
    return changed;
  });
  if (revocation !== undefined) await deps.signingKeys.reload();
  return revocation;
}
