import { newId } from '../crypto/ids.ts';
import type { AuditEventRow, Db } from '../db/schema.ts';
import { cutPage, type Page, type PageRequest } from '../paging.ts';
import type { RequestContext } from '../request-context.ts';
import type { AuditEventType } from './events.ts';
import {
  anonymizeActs,
  anonymizeEvents,
  deletePendingErasure,
  type EventFilter,
  findPendingErasure,
  insertAuditEvent,
  insertPendingErasure,
  listEventPage,
  listNewestEvents,
} from './store.ts';

type AuditEvent = {
  type: AuditEventType;
  /** Whom the event is about, where that is known. */
  userId: string | null;
  /** Who acted: the user themselves unless said otherwise, and null where that is no user. */
  actorId?: string | null;
  /** Facts without secrets or addresses, such as the method of a login. */
  details?: Record<string, string | number | boolean>;
};

/**
 * Records an event with the act that it reports: pass the transaction that does the act. What the service does by
 * itself has no request to tell of.
 */
export async function recordEvent(
  db: Db,
  event: AuditEvent,
  context: RequestContext | undefined,
  nowMs: number,
): Promise<void> {
  await insertAuditEvent(db, {
    id: newId(),
    type: event.type,
    occurred_at: nowMs,
    actor_id: event.actorId === undefined ? event.userId : event.actorId,
    user_id: event.userId,
    client_address: context?.clientAddress ?? null,
    user_agent: context?.userAgent ?? null,
    request_id: context?.requestId ?? null,
    details: JSON.stringify(event.details ?? {}),
  });
}

// More events than a person makes in years, and few enough not to hold up others.
const erasedAtOnce = 1_000;

/**
 * Leaves of a deleted user's events only that they happened and to which id. Pass the transaction of the deletion:
 * the newest events are done in it, and of whoever has more the rest is left to `erasePending`.
 */
export async function forgetPersonInEvents(tx: Db, userId: string, nowMs: number): Promise<void> {
  const erased = await anonymizeEvents(tx, userId, erasedAtOnce);
  // What the person did to others tells where they were.
  const erasedActs = await anonymizeActs(tx, userId, erasedAtOnce);
  if (erased === erasedAtOnce || erasedActs === erasedAtOnce) await insertPendingErasure(tx, userId, nowMs);
}

/** Goes on with what a deletion left: at most this many events. Returns how many it changed. */
export async function erasePending(db: Db, nowMs: number, batch: number): Promise<number> {
  const userId = await findPendingErasure(db, nowMs);
  if (userId === undefined) return 0;
  const erasedEvents = await anonymizeEvents(db, userId, batch);
  const erased = erasedEvents < batch ? erasedEvents + (await anonymizeActs(db, userId, batch - erasedEvents)) : batch;
  if (erased < batch) await deletePendingErasure(db, userId);
  return erased;
}

/** Lists the newest events about a user, for the user's own export. */
export async function listEventsOfUser(db: Db, userId: string, limit: number) {
  const rows = await listNewestEvents(db, userId, limit);
  // Where an administrator was who did it is no business of the user's.
  const isByAnother = (row: AuditEventRow) => row.actor_id !== null && row.actor_id !== userId;
  return rows.map((row) => ({
    type: row.type,
    occurredAtMs: row.occurred_at,
    clientAddress: isByAnother(row) ? null : row.client_address,
    userAgent: isByAnother(row) ? null : row.user_agent,
    details: JSON.parse(row.details) as Record<string, unknown>,
  }));
}

/** An event as flows see it. */
export type RecordedEvent = {
  id: string;
  type: string;
  occurredAtMs: number;
  actorId: string | null;
  userId: string | null;
  clientAddress: string | null;
  userAgent: string | null;
  requestId: string | null;
  details: Record<string, unknown>;
};

/** Lists events for whoever may read the audit trail, the newest first. */
export async function listEvents(db: Db, filter: EventFilter, page: PageRequest): Promise<Page<RecordedEvent>> {
  const rows = await listEventPage(db, filter, page);
  return cutPage(rows.map(toRecordedEvent), page.limit, ({ occurredAtMs: atMs, id }) => ({ atMs, id }));
}

function toRecordedEvent(row: AuditEventRow): RecordedEvent {
  return {
    id: row.id,
    type: row.type,
    occurredAtMs: row.occurred_at,
    actorId: row.actor_id,
    userId: row.user_id,
    clientAddress: row.client_address,
    userAgent: row.user_agent,
    requestId: row.request_id,
    details: JSON.parse(row.details) as Record<string, unknown>,
  };
}
