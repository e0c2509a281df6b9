import { PostgresAdapter } from 'kysely';
import type { Db, NewOutboxRow, OutboxRow } from '../db/schema.ts';

/** How full the outbox is. `oldestCreatedAtMs` is undefined when it is empty. */
export type OutboxDepth = { messages: number; oldestCreatedAtMs: number | undefined };

// To count more would take the longer, the worse things are.
const maxCounted = 10_000;

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

/** Counts the messages, up to a limit, and looks at the oldest. Ids are made in the order of time (UUID version 7). */
export async function readOutboxDepth(db: Db): Promise<OutboxDepth> {
  const waiting = db.selectFrom('outbox').select('next_attempt_at').where('next_attempt_at', '>=', 0).limit(maxCounted);
  const { messages } = await db
    .selectFrom(waiting.as('waiting'))
    .select((eb) => eb.fn.countAll<number>().as('messages'))
    .executeTakeFirstOrThrow();
  const oldest = await db
    .selectFrom('outbox')
    .select('created_at')
    .where('id', '>', '')
    .orderBy('id')
    .limit(1)
    .executeTakeFirst();
  return { messages, oldestCreatedAtMs: oldest?.created_at };
}
