import type { Db } from '../db/schema.ts';

/** Takes or renews the lease of a chore. Returns false while another instance holds it. */
export async function takeLease(
  db: Db,
  lease: { name: string; holder: string; nowMs: number; untilMs: number },
): Promise<boolean> {
  const result = await db
    .insertInto('leases')
    .values({ name: lease.name, holder: lease.holder, expires_at: lease.untilMs })
    .onConflict((conflict) =>
      conflict
        .column('name')
        .doUpdateSet({ holder: lease.holder, expires_at: lease.untilMs })
        .where((eb) => eb.or([eb('leases.expires_at', '<=', lease.nowMs), eb('leases.holder', '=', lease.holder)])),
    )
    .executeTakeFirst();
  return (result.numInsertedOrUpdatedRows ?? 0n) > 0n;
}

/** A chore: removes at most this many rows that nobody needs any more and returns how many it removed. */
export type Sweep = (db: Db, nowMs: number, batch: number) => Promise<number>;

/** Removes sessions whose life is over. The idle expiry is never after the absolute one. */
export const sweepSessions: Sweep = async (db, nowMs, batch) => {
  const result = await db
    .deleteFrom('sessions')
    .where('id', 'in', (eb) =>
      eb
        .selectFrom('sessions')
        .select('id')
        .where('idle_expires_at', '<=', nowMs)
        .orderBy('idle_expires_at')
        .limit(batch),
    )
    .executeTakeFirst();
  return Number(result.numDeletedRows);
};

/** Removes mail that was not delivered in time. Delivered mail is removed by the delivery. */
export const sweepOutbox: Sweep = async (db, nowMs, batch) => {
  const result = await db
    .deleteFrom('outbox')
    .where('id', 'in', (eb) =>
      eb.selectFrom('outbox').select('id').where('expires_at', '<=', nowMs).orderBy('expires_at').limit(batch),
    )
    .executeTakeFirst();
  return Number(result.numDeletedRows);
};

/** Removes changes of address that were never completed. */
export const sweepPendingEmailChanges: Sweep = async (db, nowMs, batch) => {
  const result = await db
    .deleteFrom('pending_email_changes')
    .where('user_id', 'in', (eb) =>
      eb
        .selectFrom('pending_email_changes')
        .select('user_id')
        .where('expires_at', '<=', nowMs)
        .orderBy('expires_at')
        .limit(batch),
    )
    .executeTakeFirst();
  return Number(result.numDeletedRows);
};

/** Forgets devices that were last used before this time. */
export function sweepDevicesUnusedFor(unusedForMs: number): Sweep {
  return async (db, nowMs, batch) => {
    const stale = await db
      .selectFrom('known_devices')
      .select(['user_id', 'fingerprint'])
      .where('last_seen_at', '<=', nowMs - unusedForMs)
      .orderBy('last_seen_at')
      .limit(batch)
      .execute();
    if (stale.length === 0) return 0;
    const result = await db
      .deleteFrom('known_devices')
      .where(({ eb, refTuple, tuple }) =>
        eb(
          refTuple('user_id', 'fingerprint'),
          'in',
          stale.map((row) => tuple(row.user_id, row.fingerprint)),
        ),
      )
      // Used again since it was read: it stays.
      .where('last_seen_at', '<=', nowMs - unusedForMs)
      .executeTakeFirst();
    return Number(result.numDeletedRows);
  };
}

/** Removes retired signing keys whose last token has expired. */
export function sweepKeysRetiredFor(retiredForMs: number): Sweep {
  return async (db, nowMs, batch) => {
    const result = await db
      .deleteFrom('signing_keys')
      .where('kid', 'in', (eb) =>
        eb
          .selectFrom('signing_keys')
          .select('kid')
          .where('state', '=', 'retired')
          .where('retired_at', '<=', nowMs - retiredForMs)
          .limit(batch),
      )
      .executeTakeFirst();
    return Number(result.numDeletedRows);
  };
}
