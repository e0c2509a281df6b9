import type { Keyring } from '../crypto/secrets.ts';
import { inTransaction } from '../db/database.ts';
import type { Db } from '../db/schema.ts';
import type { Deps } from '../deps.ts';
import { authenticateAnchor, makeAnchor } from './chain.ts';
import { recordEvent } from './flow.ts';
import {
  deleteSealsThrough,
  findAnchor,
  listErasedUsersThrough,
  listOldestSeals,
  type OldSeal,
  putAnchor,
  updateAnchorMac,
} from './seal-store.ts';

const dayMs = 24 * 60 * 60 * 1000;
// The clock is read in steps of this, so that a busy service removes some hundred seals at once and not one each minute:
// each removal writes an event itself.
const stepMs = 60 * 60 * 1000;

/**
 * Makes the chore that removes events older than so many days, where that is not 0: whole seals from the old end of the
 * chain, about as many events as the batch says. The anchor that it leaves is what the rest of the chain goes on from.
 */
export function expireEventsAfter(
  { keyring }: Pick<Deps, 'keyring'>,
  days: number,
): (db: Db, nowMs: number, batch: number) => Promise<number> {
  return async (db, nowMs, batch) => {
    await renewAnchor(db, keyring);
    if (days === 0) return 0;
    const cutoffMs = nowMs - (nowMs % stepMs) - days * dayMs;
    const seals = await listOldestSeals(db, batch);
    const last = chooseLast(seals, { cutoffMs, nowMs, batch });
    if (last === undefined) return 0;
    return inTransaction(db, async (tx) => {
      // Blanked events of these users stay, and without the event of the deletion they would look tampered with.
      const erased = await listErasedUsersThrough(tx, last.seq);
      const removed = await deleteSealsThrough(tx, last.seq);
      if (removed.seals === 0) return 0;
      await putAnchor(tx, makeAnchor(keyring.current, last, nowMs));
      for (const userId of erased) {
        const event = { type: 'user.erased', userId, actorId: null, details: { by: 'retention' } } as const;
        await recordEvent(tx, event, undefined, nowMs);
      }
      const details = { events: removed.events, seals: removed.seals, through_seal: last.seq };
      await recordEvent(tx, { type: 'audit.expired', userId: null, details }, undefined, nowMs);
      return removed.events;
    });
  };
}

/** After a rotation of SECRET_KEY the anchor is authenticated anew, so that the old value can be taken away next. */
async function renewAnchor(db: Db, keyring: Keyring): Promise<void> {
  const anchor = await findAnchor(db);
  if (anchor === undefined || anchor.key_fingerprint === keyring.current.fingerprint) return;
  if (authenticateAnchor(keyring, anchor) !== 'genuine') return;
  await updateAnchorMac(db, makeAnchor(keyring.current, anchor, anchor.removed_at));
}

/** Chooses the seal up to which all go. Only what is old from the beginning on: the chain has one beginning. */
function chooseLast(
  seals: readonly OldSeal[],
  { cutoffMs, nowMs, batch }: { cutoffMs: number; nowMs: number; batch: number },
): OldSeal | undefined {
  let last: OldSeal | undefined;
  let events = 0;
  for (const seal of seals) {
    const isOld = seal.newest_event_at <= cutoffMs;
    // Written while the clock was wrong: it goes with the old ones after it, and must not hold them up for years.
    const isFromTheFuture = seal.newest_event_at > nowMs;
    if (!isOld && !isFromTheFuture) break;
    events += seal.event_count;
    if (isOld) last = seal;
    if (events >= batch && last !== undefined) break;
  }
  return last;
}
