import type { Db } from '../db/schema.ts';

/** Notes that a device was used now. Returns false when the user was never seen on it under this digest. */
export async function touchDevice(db: Db, userId: string, fingerprint: string, nowMs: number): Promise<boolean> {
  const result = await db
    .updateTable('known_devices')
    .set({ last_seen_at: nowMs })
    .where('user_id', '=', userId)
    .where('fingerprint', '=', fingerprint)
    .executeTakeFirst();
  return result.numUpdatedRows > 0n;
}

/** Says whether a user was seen on a device under one of its digests. */
export async function findDevice(db: Db, userId: string, fingerprints: readonly string[]): Promise<boolean> {
  const row = await db
    .selectFrom('known_devices')
    .select('user_id')
    .where('user_id', '=', userId)
    .where('fingerprint', 'in', [...fingerprints])
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}

/** Forgets a device under digests that a newer one has replaced. Returns false when there were none. */
export async function deleteDevice(db: Db, userId: string, fingerprints: readonly string[]): Promise<boolean> {
  if (fingerprints.length === 0) return false;
  const result = await db
    .deleteFrom('known_devices')
    .where('user_id', '=', userId)
    .where('fingerprint', 'in', [...fingerprints])
    .executeTakeFirst();
  return result.numDeletedRows > 0n;
}

/** Remembers a device; one that a parallel login has just added stays as it is. */
export async function insertDevice(db: Db, userId: string, fingerprint: string, nowMs: number): Promise<void> {
  await db
    .insertInto('known_devices')
    .values({ user_id: userId, fingerprint, first_seen_at: nowMs, last_seen_at: nowMs })
    .onConflict((conflict) => conflict.columns(['user_id', 'fingerprint']).doNothing())
    .execute();
}

/** Forgets every device of a user. */
export async function deleteDevicesOfUser(db: Db, userId: string): Promise<void> {
  await db.deleteFrom('known_devices').where('user_id', '=', userId).execute();
}

/** Lists when a user's devices were seen, the newest first. */
export function listDevices(db: Db, userId: string, limit: number) {
  return db
    .selectFrom('known_devices')
    .select(['first_seen_at', 'last_seen_at'])
    .where('user_id', '=', userId)
    .orderBy('last_seen_at', 'desc')
    .limit(limit)
    .execute();
}

// More than this over the cap cannot come of one login.
const excessBatch = 100;

/** Forgets the devices of a user that were not used for longest, so that at most `cap` remain. */
export async function deleteDevicesOverCap(db: Db, userId: string, cap: number): Promise<void> {
  await db
    .deleteFrom('known_devices')
    .where('user_id', '=', userId)
    .where('fingerprint', 'in', (eb) =>
      eb
        .selectFrom('known_devices')
        .select('fingerprint')
        .where('user_id', '=', userId)
        .orderBy('last_seen_at', 'desc')
        .orderBy('fingerprint')
        .limit(excessBatch)
        .offset(cap),
    )
    .execute();
}
