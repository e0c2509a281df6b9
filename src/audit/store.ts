import type { Db, NewAuditEventRow } from '../db/schema.ts';

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
