import { sql } from 'kysely';
import type { DialectName } from '../db/migrate.ts';
import type { AuditAnchorRow, AuditEventRow, AuditSealRow, Db } from '../db/schema.ts';
import { erasureTypes } from './events.ts';

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
    // Each once only below: to tell them apart by itself SQLite would read every event in the order of the users.
    .select('told.user_id')
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
  return [...new Set(rows.flatMap(({ user_id: userId }) => userId ?? []))];
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
