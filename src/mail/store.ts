import { PostgresAdapter } from 'kysely';
import type { Db, NewOutboxRow, OutboxRow } from '../db/schema.ts';

/** Adds one message to the outbox. */
export async function insertOutboxRow(db: Db, row: NewOutboxRow): Promise<void> {
  await db.insertInto('outbox').values(row).execute();
}

/**
 * Claims messages that are due, the longest waiting first, by moving their next attempt to the end of the lease. No
 * two instances get the same one. On PostgreSQL those that another instance is claiming are passed over rather than
 * waited for; SQLite has one writer at a time.
 */
export function claimDueRows(
  db: Db,
  claim: { nowMs: number; leaseUntilMs: number; batch: number },
): Promise<OutboxRow[]> {
  const isPostgres = db.getExecutor().adapter instanceof PostgresAdapter;
  return db
    .with('due', (cte) =>
      cte
        .selectFrom('outbox')
        .select('id')
        .where('next_attempt_at', '<=', claim.nowMs)
        .orderBy('next_attempt_at')
        .limit(claim.batch)
        .$if(isPostgres, (query) => query.forUpdate().skipLocked()),
    )
    .updateTable('outbox')
    .set((eb) => ({ attempts: eb('attempts', '+', 1), next_attempt_at: claim.leaseUntilMs }))
    .where('id', 'in', (eb) => eb.selectFrom('due').select('due.id'))
    .returningAll()
    .execute();
}

/** Removes messages that were delivered, have expired or were given up. */
export async function deleteOutboxRows(db: Db, ids: readonly string[]): Promise<void> {
  await db.deleteFrom('outbox').where('id', 'in', ids).execute();
}

/** Sets when a message that could not be delivered is tried again. */
export async function postponeOutboxRow(db: Db, id: string, nextAttemptAtMs: number): Promise<void> {
  await db.updateTable('outbox').set({ next_attempt_at: nextAttemptAtMs }).where('id', '=', id).execute();
}

/** Gives claimed messages back as they were: due, and the claim no attempt. */
export async function releaseOutboxRows(db: Db, ids: readonly string[], nowMs: number): Promise<void> {
  await db
    .updateTable('outbox')
    .set((eb) => ({ attempts: eb('attempts', '-', 1), next_attempt_at: nowMs }))
    .where('id', 'in', ids)
    .execute();
}
