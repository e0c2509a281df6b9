import { sql } from 'kysely';
import type { AuditEventRow, Db, NewAuditEventRow } from '../db/schema.ts';
import { beforeTheNewest, type PageRequest } from '../paging.ts';

/** Adds one event. */
export async function insertAuditEvent(db: Db, row: NewAuditEventRow): Promise<void> {
  await db.insertInto('audit_events').values(row).execute();
}

/**
 * Takes the client's address, device and details out of at most so many events about a user, leaving the id, the newest
 * first, and the salt with them, so that nobody can find them by trying. Returns how many it changed.
 */
export async function anonymizeEvents(db: Db, userId: string, batch: number): Promise<number> {
  const result = await db
    .updateTable('audit_events')
    .set({ client_address: null, user_agent: null, details: '{}', seal_origin_salt: null, seal_details_salt: null })
    .where('id', 'in', (eb) =>
      eb
        .selectFrom('audit_events')
        .select('id')
        .where('user_id', '=', userId)
        .where((nested) =>
          nested.or([
            nested('client_address', 'is not', null),
            nested('user_agent', 'is not', null),
            nested('details', '!=', '{}'),
          ]),
        )
        .orderBy('occurred_at', 'desc')
        .limit(batch),
    )
    .executeTakeFirst();
  return Number(result.numUpdatedRows);
}

/**
 * Takes a deleted actor's address and device out of at most so many events about others, the newest first. What was done
 * to others stays readable: nobody may take the traces of their acts away by deleting themselves. Returns how many it
 * changed.
 */
export async function anonymizeActs(db: Db, actorId: string, batch: number): Promise<number> {
  const result = await db
    .updateTable('audit_events')
    .set({ client_address: null, user_agent: null, seal_origin_salt: null })
    .where('id', 'in', (eb) =>
      eb
        .selectFrom('audit_events')
        .select('id')
        .where('actor_id', '=', actorId)
        // As the index has it, which holds no others.
        .where('actor_id', 'is distinct from', eb.ref('user_id'))
        .where('client_address', 'is not', null)
        .orderBy('occurred_at', 'desc')
        .limit(batch),
    )
    .executeTakeFirst();
  return Number(result.numUpdatedRows);
}

/** Notes that events about a deleted user are still to be anonymised. */
export async function insertPendingErasure(db: Db, userId: string, nowMs: number): Promise<void> {
  await db.insertInto('pending_erasures').values({ user_id: userId, created_at: nowMs }).execute();
}

/** Finds the user deleted first whose events are still to be anonymised. */
export async function findPendingErasure(db: Db, nowMs: number): Promise<string | undefined> {
  const row = await db
    .selectFrom('pending_erasures')
    .select('user_id')
    .where('created_at', '<=', nowMs)
    .orderBy('created_at')
    .limit(1)
    .executeTakeFirst();
  return row?.user_id;
}

/** Notes that nothing is left to anonymise. Returns false when that was noted before. */
export async function deletePendingErasure(db: Db, userId: string): Promise<boolean> {
  const result = await db.deleteFrom('pending_erasures').where('user_id', '=', userId).executeTakeFirst();
  return result.numDeletedRows === 1n;
}

/** Lists the newest events about a user. */
export function listNewestEvents(db: Db, userId: string, limit: number): Promise<AuditEventRow[]> {
  return db
    .selectFrom('audit_events')
    .selectAll()
    .where('user_id', '=', userId)
    .orderBy('occurred_at', 'desc')
    .orderBy('id', 'desc')
    .limit(limit)
    .execute();
}

/** Which events are asked for. What is undefined does not matter. */
export type EventFilter = {
  userId?: string | undefined;
  type?: string | undefined;
  sinceMs?: number | undefined;
  untilMs?: number | undefined;
};

/** Lists events, the newest first: from `sinceMs` on and before `untilMs`. Reads one more than the page holds. */
export function listEventPage(db: Db, filter: EventFilter, page: PageRequest): Promise<AuditEventRow[]> {
  const { userId, type, sinceMs, untilMs } = filter;
  const end = untilMs === undefined ? beforeTheNewest : { atMs: untilMs, id: '' };
  // One bound and not two: PostgreSQL begins at the one that it likes, and would read from the newest event to the other.
  const after = page.after !== undefined && page.after.atMs < end.atMs ? page.after : end;
  return db
    .selectFrom('audit_events')
    .selectAll()
    .$if(userId !== undefined, (query) => query.where('user_id', '=', userId ?? ''))
    .$if(type !== undefined, (query) =>
      query.where(({ eb, fn, ref }) => {
        // A user has few events and a type many. SQLite knows nothing of that, and would take the index of the types.
        const column = userId === undefined ? ref('type') : fn.coalesce('type', sql<string>`''`);
        return eb(column, '=', type ?? '');
      }),
    )
    .$if(sinceMs !== undefined, (query) => query.where('occurred_at', '>=', sinceMs ?? 0))
    .where(({ eb, refTuple, tuple }) => eb(refTuple('occurred_at', 'id'), '<', tuple(after.atMs, after.id)))
    .orderBy('occurred_at', 'desc')
    .orderBy('id', 'desc')
    .limit(page.limit + 1)
    .execute();
}
