import { sql } from 'kysely';
import type { Db, Schema } from '../db/schema.ts';

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
export const sweepSessions = sweepExpired('sessions', 'id', 'idle_expires_at');

/** Removes mail that was not delivered in time. Delivered mail is removed by the delivery. */
export const sweepOutbox = sweepExpired('outbox', 'id', 'expires_at');

/** Removes changes of address that were never completed. */
export const sweepPendingEmailChanges = sweepExpired('pending_email_changes', 'user_id', 'expires_at');

/** Removes counts of wrong passwords that nothing was added to for long. */
export const sweepPasswordFailures = sweepExpired('password_failures', 'lane', 'expires_at');

/** Removes the rows of a table whose time is over, the oldest first. Both columns are the table's own. */
function sweepExpired<T extends keyof Schema & string>(
  table: T,
  key: keyof Schema[T] & string,
  expiry: keyof Schema[T] & string,
): Sweep {
  return async (db, nowMs, batch) => {
    // What was used again since it was found stays: PostgreSQL looks at the condition outside once more.
    const [from, id, end] = [sql.table(table), sql.ref(key), sql.ref(expiry)];
    const oldest = sql`select ${id} from ${from} where ${end} <= ${nowMs} order by ${end} limit ${batch}`;
    const result = await sql`delete from ${from} where ${id} in (${oldest}) and ${end} <= ${nowMs}`.execute(db);
    return Number(result.numAffectedRows ?? 0n);
  };
}

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
