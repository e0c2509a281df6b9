import type { AuditEventRow, Db, NewAuditEventRow } from '../db/schema.ts';

/** Adds one event. */
export async function insertAuditEvent(db: Db, row: NewAuditEventRow): Promise<void> {
  await db.insertInto('audit_events').values(row).execute();
}

/** Takes the client's address and device out of every event about a user, leaving the id. */
export async function anonymizeAuditEvents(db: Db, userId: string): Promise<void> {
  await db
    .updateTable('audit_events')
    .set({ client_address: null, user_agent: null, details: '{}' })
    .where('user_id', '=', userId)
    .execute();
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
