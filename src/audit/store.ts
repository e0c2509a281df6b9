import { sql } from 'kysely';
import type { DialectName } from '../db/migrate.ts';
import type { AuditAnchorRow, AuditEventRow, AuditSealRow, Db, NewAuditEventRow } from '../db/schema.ts';
import { beforeTheNewest, type PageRequest } from '../paging.ts';
import { erasureTypes } from './events.ts';

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

/** Says whether any event waits to be sealed. */
export async function hasUnsealedEvents(db: Db): Promise<boolean> {
  const row = await db
    .selectFrom('audit_events')
    .select('id')
    .where('seal_seq', 'is', null)
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}

/**
 * Reads the oldest events that wait to be sealed and holds them still for the rest of the transaction, so that none is
 * blanked in between. One that is being blanked now is left to the next batch. On SQLite the transaction is the lock.
 */
export async function lockUnsealedEvents(db: Db, dialect: DialectName, limit: number): Promise<AuditEventRow[]> {
  // A planner that expects few events to wait, as there mostly are, would sort the whole of a backlog for each batch.
  if (dialect === 'postgres') await sql`set local enable_sort = off`.execute(db);
  return (
    db
      .selectFrom('audit_events')
      .selectAll()
      .where('seal_seq', 'is', null)
      // In the order of the index, which PostgreSQL would not see behind the second column alone.
      .orderBy('seal_seq')
      .orderBy('id')
      .limit(limit)
      .$if(dialect === 'postgres', (query) => query.forUpdate().skipLocked())
      .execute()
  );
}

/** An event with what it is sealed by. */
export type SealedEvent = {
  id: string;
  salts: { origin: string; details: string };
  commitments: { origin: string; details: string };
};

/** Notes the seal of each event, which must be held still. Throws when one is gone. */
export async function sealEvents(db: Db, seq: number, events: readonly SealedEvent[]): Promise<void> {
  const values = events.map(({ id, salts, commitments }) => {
    return sql`(${id}, ${salts.origin}, ${commitments.origin}, ${salts.details}, ${commitments.details})`;
  });
  const result = await sql`with entries (id, origin_salt, origin, details_salt, details) as (values ${sql.join(values)})
    update audit_events set seal_seq = ${seq},
      seal_origin_salt = entries.origin_salt, seal_origin_commitment = entries.origin,
      seal_details_salt = entries.details_salt, seal_details_commitment = entries.details
    from entries where audit_events.id = entries.id`.execute(db);
  if (result.numAffectedRows !== BigInt(events.length)) throw new Error('an event changed while it was sealed');
}

/** Adds a seal. Fails with a unique violation when another instance has used its number. */
export async function insertSeal(db: Db, seal: AuditSealRow): Promise<void> {
  await db.insertInto('audit_seals').values(seal).execute();
}

/** Reads the newest seal. */
export function findNewestSeal(db: Db): Promise<Omit<AuditSealRow, 'manifest'> | undefined> {
  // A condition that always holds makes it visible that the key is searched and the table not read.
  const query = db.selectFrom('audit_seals').select(sealColumns).where('seq', '>', 0);
  return query.orderBy('seq', 'desc').limit(1).executeTakeFirst();
}

// Without the manifest, which is long.
const sealColumns = [
  'seq',
  'sealed_at',
  'newest_event_at',
  'event_count',
  'total_count',
  'previous_digest',
  'digest',
  'key_fingerprint',
  'mac',
] as const;

/** Reads what the retention has left of the beginning of the chain. */
export function findAnchor(db: Db): Promise<AuditAnchorRow | undefined> {
  return db.selectFrom('audit_anchors').selectAll().orderBy('seq', 'desc').limit(1).executeTakeFirst();
}

/** What the retention must know of a seal. */
export type OldSeal = Pick<AuditSealRow, 'seq' | 'newest_event_at' | 'event_count' | 'total_count' | 'digest'>;

/** Lists the oldest seals. */
export function listOldestSeals(db: Db, limit: number): Promise<OldSeal[]> {
  return db
    .selectFrom('audit_seals')
    .select(['seq', 'newest_event_at', 'event_count', 'total_count', 'digest'])
    .where('seq', '>', 0)
    .orderBy('seq')
    .limit(limit)
    .execute();
}

/** Removes the seals up to this one with their events. Returns how many of each went. */
export async function deleteSealsThrough(db: Db, seq: number): Promise<{ seals: number; events: number }> {
  const seals = await db.deleteFrom('audit_seals').where('seq', '<=', seq).executeTakeFirst();
  const events = await db.deleteFrom('audit_events').where('seal_seq', '<=', seq).executeTakeFirst();
  return { seals: Number(seals.numDeletedRows), events: Number(events.numDeletedRows) };
}

/** Sets the anchor, in the place of the one before. */
export async function putAnchor(db: Db, anchor: AuditAnchorRow): Promise<void> {
  await db.deleteFrom('audit_anchors').execute();
  await db.insertInto('audit_anchors').values(anchor).execute();
}

/** Replaces the MAC of the anchor if it is still this one. */
export async function updateAnchorMac(db: Db, anchor: AuditAnchorRow): Promise<void> {
  const { seq, key_fingerprint, mac } = anchor;
  await db.updateTable('audit_anchors').set({ key_fingerprint, mac }).where('seq', '=', seq).execute();
}

/** Lists the users whose erasure is told up to this seal, and of whom blanked events are sealed after it. */
export async function listErasedUsersThrough(db: Db, seq: number): Promise<string[]> {
  const rows = await db
    .selectFrom('audit_events as told')
    .select('told.user_id')
    .distinct()
    .where('told.seal_seq', '<=', seq)
    // Not by the index of types: the oldest seals hold few events, and an old service has seen many deletions.
    .where(({ eb, fn }) => eb(fn.coalesce('told.type', sql<string>`''`), 'in', erasureTypes))
    .where(({ exists, selectFrom }) =>
      exists(
        selectFrom('audit_events as blanked')
          .select('blanked.id')
          .where(({ eb, or, ref }) =>
            or([
              eb('blanked.user_id', '=', ref('told.user_id')),
              // As the index of acts on others has it.
              eb('blanked.actor_id', '=', ref('told.user_id')).and(
                'blanked.actor_id',
                'is distinct from',
                ref('blanked.user_id'),
              ),
            ]),
          )
          .where('blanked.seal_seq', '>', seq)
          .where('blanked.seal_origin_salt', 'is', null),
      ),
    )
    .execute();
  return rows.flatMap(({ user_id: userId }) => userId ?? []);
}

/** Reads the next seals after this one, in their order. */
export function listSealsAfter(db: Db, seq: number, limit: number): Promise<AuditSealRow[]> {
  return db.selectFrom('audit_seals').selectAll().where('seq', '>', seq).orderBy('seq').limit(limit).execute();
}

/** Where a reading of the sealed events has come to. */
export type SealedPlace = { sealSeq: number; id: string };

/** Reads the next sealed events after this place, in the order of their seals and then of their ids. */
export function listSealedEventsAfter(db: Db, after: SealedPlace, limit: number): Promise<AuditEventRow[]> {
  return db
    .selectFrom('audit_events')
    .selectAll()
    .where(({ eb, refTuple, tuple }) => eb(refTuple('seal_seq', 'id'), '>', tuple(after.sealSeq, after.id)))
    .orderBy('seal_seq')
    .orderBy('id')
    .limit(limit)
    .execute();
}

/** Counts the events that wait to be sealed, and says when the oldest of them happened. */
export async function countUnsealedEvents(db: Db): Promise<{ count: number; oldestAtMs: number | null }> {
  const row = await db
    .selectFrom('audit_events')
    .select(({ fn }) => [fn.countAll<number>().as('count'), fn.min('occurred_at').as('oldest')])
    .where('seal_seq', 'is', null)
    .executeTakeFirst();
  return { count: Number(row?.count ?? 0), oldestAtMs: row?.oldest ?? null };
}

/** Says whether a user is gone and an event tells of it. */
export async function isToldErased(db: Db, userId: string): Promise<boolean> {
  const told = await db
    .selectFrom('audit_events')
    .select('id')
    .where('user_id', '=', userId)
    .where('type', 'in', erasureTypes)
    .limit(1)
    .executeTakeFirst();
  if (told === undefined) return false;
  return (await db.selectFrom('users').select('id').where('id', '=', userId).executeTakeFirst()) === undefined;
}

/** Finds in which seal an event says it is: null for one that says it is in none, undefined where there is no such event. */
export async function findSealOfEvent(db: Db, id: string): Promise<number | null | undefined> {
  const row = await db.selectFrom('audit_events').select('seal_seq').where('id', '=', id).executeTakeFirst();
  return row?.seal_seq;
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
    .$if(type !== undefined, (query) => query.where('type', '=', type ?? ''))
    .$if(sinceMs !== undefined, (query) => query.where('occurred_at', '>=', sinceMs ?? 0))
    .where(({ eb, refTuple, tuple }) => eb(refTuple('occurred_at', 'id'), '<', tuple(after.atMs, after.id)))
    .orderBy('occurred_at', 'desc')
    .orderBy('id', 'desc')
    .limit(page.limit + 1)
    .execute();
}
