import { sql } from 'kysely';
import type { Db } from '../db/schema.ts';

/** An attempt to be counted. */
type CountedAttempt = {
  lane: string;
  /** The same lane under older secrets, whose count goes on here. */
  olderLanes: readonly string[];
  userId: string | null;
  /** 0 writes the same row and leaves the count as it is. */
  by: 0 | 1;
  expiresAtMs: number;
  /** When the row expires where the lane is suspended. */
  suspendedExpiresAtMs: number;
};

/**
 * Counts an attempt as failed, before anybody knows how it ends, and returns how many there are now. It is one
 * statement on one row that waits for no other row, so no order of locks can be wrong.
 */
export async function countFailure(db: Db, attempt: CountedAttempt): Promise<number> {
  const { lane, olderLanes, userId, by, expiresAtMs, suspendedExpiresAtMs } = attempt;
  const row = await db
    .insertInto('password_failures')
    .values((eb) => {
      const first = { lane, user_id: userId, expires_at: expiresAtMs };
      if (olderLanes.length === 0) return { ...first, failures: by, suspended_at: null };
      const older = eb.selectFrom('password_failures').where('lane', 'in', [...olderLanes]);
      return {
        ...first,
        failures: eb(eb.fn.coalesce(older.select(eb.fn.max('failures').as('most')), sql.lit(0)), '+', by),
        suspended_at: older.select(eb.fn.max('suspended_at').as('newest')),
      };
    })
    .onConflict((conflict) =>
      conflict.column('lane').doUpdateSet((eb) => ({
        failures: eb('password_failures.failures', '+', by),
        expires_at: eb
          .case()
          .when('password_failures.suspended_at', 'is', null)
          .then(sql<number>`cast(${expiresAtMs} as bigint)`)
          .else(sql<number>`cast(${suspendedExpiresAtMs} as bigint)`)
          .end(),
      })),
    )
    .returning('failures')
    .executeTakeFirstOrThrow();
  return row.failures;
}

/** Takes back an attempt that came to nothing. */
export async function takeFailureBack(db: Db, lane: string): Promise<void> {
  await db
    .updateTable('password_failures')
    .set((eb) => ({ failures: eb('failures', '-', 1) }))
    .where('lane', '=', lane)
    .where('failures', '>', 0)
    .execute();
}

/** Begins the count of a lane anew, unless the lane is suspended. */
export async function deleteFailures(db: Db, lanes: readonly string[]): Promise<void> {
  await db
    .deleteFrom('password_failures')
    .where('lane', 'in', [...lanes])
    .where('suspended_at', 'is', null)
    .execute();
}

/** Suspends a lane that has so many failures. Returns false when it is suspended already or has fewer by now. */
export async function suspendLane(
  db: Db,
  suspension: { lane: string; failures: number; nowMs: number; expiresAtMs: number },
): Promise<boolean> {
  const result = await db
    .updateTable('password_failures')
    .set({ suspended_at: suspension.nowMs, expires_at: suspension.expiresAtMs })
    .where('lane', '=', suspension.lane)
    .where('failures', '>=', suspension.failures)
    .where('suspended_at', 'is', null)
    .executeTakeFirst();
  return result.numUpdatedRows === 1n;
}

/** Forgets every count of a user. */
export async function deleteFailuresOfUser(db: Db, userId: string): Promise<void> {
  await db.deleteFrom('password_failures').where('user_id', '=', userId).execute();
}
