import type { AuditEventRow, AuditSealRow, Db } from '../db/schema.ts';
import { commitToDetails, commitToOrigin, digestEvent, type Manifest } from './chain.ts';
import type { Findings } from './findings.ts';
import { findSealOfEvent, isToldErased, listSealedEventsAfter } from './seal-store.ts';

/** Compares the events with what the seals say of them. */
export type EventCheck = {
  /** Checks the events of a seal. Pass every seal, in their order. */
  passSeal(seal: AuditSealRow): Promise<void>;
  /** Reports events of seals that are not there. Call it after the last seal. */
  end(): Promise<void>;
  counts: { events: number; blankedEvents: number };
};

const eventsPerRead = 500;
const rememberedUsers = 1_000;

/** Creates the check. It reads the events once, in the order of the seals. */
export function createEventCheck(tx: Db, findings: Findings): EventCheck {
  const counts = { events: 0, blankedEvents: 0 };
  const isErased = rememberErasures(tx);
  const events = readSealedEvents(tx);
  let next: AuditEventRow | undefined;
  let hasBegun = false;

  /** Returns the next event up to this seal, and stays before one that comes later. */
  async function takeThrough(seq: number): Promise<AuditEventRow | undefined> {
    if (!hasBegun) await advance();
    const event = next;
    if (event === undefined || (event.seal_seq ?? 0) > seq) return undefined;
    await advance();
    return event;
  }

  async function advance(): Promise<void> {
    hasBegun = true;
    next = (await events.next()).value ?? undefined;
  }

  async function reportStrays(beforeSeq: number): Promise<void> {
    for (let event = await takeThrough(beforeSeq); event !== undefined; event = await takeThrough(beforeSeq)) {
      findings.add('event_added', event.seal_seq ?? 0, event.id, 'says it is in this seal, which is not there');
    }
  }

  async function checkEvent(event: AuditEventRow, seq: number, digest: string): Promise<void> {
    counts.events += 1;
    const { id, seal_origin_commitment: origin, seal_details_commitment: details } = event;
    const parts = judgeParts(event);
    const isAsSealed = origin !== null && details !== null && digestEvent(event, { origin, details }) === digest;
    if (!isAsSealed || parts.includes('false_blank')) {
      findings.add('event_changed', seq, id, 'is not as it was when it was sealed');
    } else if (parts.includes('changed')) {
      findings.add('event_changed', seq, id, 'has another address, user agent or details than when it was sealed');
    } else if (parts.includes('emptied')) {
      findings.add('event_blanked', seq, id, 'was blanked, but not by a deletion');
    } else if (parts.includes('blank')) {
      counts.blankedEvents += 1;
      if (await isErased(event.user_id)) return;
      // With its actor goes where the actor was; what was done to somebody else stays.
      const isActAlone = parts[1] === 'kept' && event.actor_id !== event.user_id;
      if (isActAlone && (await isErased(event.actor_id))) return;
      findings.add('event_blanked', seq, id, 'was blanked, but nothing tells that its user was deleted');
    }
  }

  async function reportMissing(ids: Iterable<string>, seq: number): Promise<void> {
    for (const id of ids) {
      const says = await findSealOfEvent(tx, id);
      if (says === undefined) findings.add('event_missing', seq, id, 'was sealed and is missing');
      else
        findings.add(
          'event_changed',
          seq,
          id,
          `was sealed, and now says it is in ${says === null ? 'no seal' : `seal ${says}`}`,
        );
    }
  }

  return {
    counts,
    async passSeal(seal) {
      const { seq } = seal;
      await reportStrays(seq - 1);
      const expected = readManifest(seal.manifest);
      if (expected === undefined) findings.add('seal_changed', seq, null, 'cannot be read');
      for (let event = await takeThrough(seq); event !== undefined; event = await takeThrough(seq)) {
        if (expected === undefined) continue;
        const digest = expected.get(event.id);
        if (digest === undefined) findings.add('event_added', seq, event.id, 'was added after this seal was made');
        else await checkEvent(event, seq, digest);
        expected.delete(event.id);
      }
      await reportMissing(expected?.keys() ?? [], seq);
    },
    end: () => reportStrays(Number.MAX_SAFE_INTEGER),
  };
}

/** What became of a part of an event that an erasure blanks: without its salt it must be blank. */
type Part = 'kept' | 'changed' | 'blank' | 'emptied' | 'false_blank';

/** Judges the origin and the details of an event, in this order. */
function judgeParts(event: AuditEventRow): readonly [origin: Part, details: Part] {
  const { seal_origin_salt: originSalt, seal_details_salt: detailsSalt } = event;
  const hasNoOrigin = event.client_address === null && event.user_agent === null;
  const origin = originSalt === null || commitToOrigin(event, originSalt) === event.seal_origin_commitment;
  const details = detailsSalt === null || commitToDetails(event, detailsSalt) === event.seal_details_commitment;
  return [judge(originSalt, hasNoOrigin, origin), judge(detailsSalt, event.details === '{}', details)];
}

function judge(salt: string | null, isEmpty: boolean, isAsSealed: boolean): Part {
  if (salt === null) return isEmpty ? 'blank' : 'false_blank';
  if (isAsSealed) return 'kept';
  return isEmpty ? 'emptied' : 'changed';
}

async function* readSealedEvents(tx: Db): AsyncGenerator<AuditEventRow> {
  let place = { sealSeq: Number.MIN_SAFE_INTEGER, id: '' };
  for (;;) {
    const events = await listSealedEventsAfter(tx, place, eventsPerRead);
    yield* events;
    const last = events.at(-1);
    if (last === undefined || events.length < eventsPerRead) return;
    place = { sealSeq: last.seal_seq ?? 0, id: last.id };
  }
}

/** Undefined where the text is none that we made. */
function readManifest(text: string): Map<string, string> | undefined {
  try {
    return new Map(JSON.parse(text) as Manifest);
  } catch {
    return undefined;
  }
}

/** Looks up whether a user was deleted, and remembers it for the user's next events, which are near. */
function rememberErasures(tx: Db): (userId: string | null) => Promise<boolean> {
  const known = new Map<string, boolean>();
  return async (userId) => {
    if (userId === null) return false;
    const remembered = known.get(userId);
    if (remembered !== undefined) return remembered;
    const isErased = await isToldErased(tx, userId);
    if (known.size >= rememberedUsers) known.clear();
    known.set(userId, isErased);
    return isErased;
  };
}
