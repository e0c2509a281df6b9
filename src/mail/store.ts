import type { Db, NewOutboxRow, OutboxRow } from '../db/schema.ts';

/** Adds one message to the outbox. */
export async function insertOutboxRow(db: Db, row: NewOutboxRow): Promise<void> {
  await db.insertInto('outbox').values(row).execute();
}

/**
 * Claims messages that are due by moving their next attempt to the end of the lease. The outer condition
 * repeats the inner one, so that of two instances that chose the same rows only one gets each.
 */
export function claimDueRows(
  db: Db,
  claim: { nowMs: number; leaseUntilMs: number; batch: number },
): Promise<OutboxRow[]> {
  return db
    .updateTable('outbox')
    .set((eb) => ({ attempts: eb('attempts', '+', 1), next_attempt_at: claim.leaseUntilMs }))
    .where('id', 'in', (eb) =>
      eb
        .selectFrom('outbox')
        .select('id')
        .where('next_attempt_at', '<=', claim.nowMs)
        .orderBy('next_attempt_at')
        .limit(claim.batch),
    )
    .where('next_attempt_at', '<=', claim.nowMs)
    .returningAll()
    .execute();
}

/** Removes a message that was delivered or has expired. */
export async function deleteOutboxRow(db: Db, id: string): Promise<void> {
  await db.deleteFrom('outbox').where('id', '=', id).execute();
}

/** Sets when a message that could not be delivered is tried again. */
export async function postponeOutboxRow(db: Db, id: string, nextAttemptAtMs: number): Promise<void> {
  await db.updateTable('outbox').set({ next_attempt_at: nextAttemptAtMs }).where('id', '=', id).execute();
}
