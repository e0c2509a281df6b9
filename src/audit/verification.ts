import type { Keyring } from '../crypto/secrets.ts';
import type { AuditAnchorRow, AuditSealRow, Db } from '../db/schema.ts';
import { authenticateAnchor, authenticateSeal, type ChainLink, chainStart, digestSeal } from './chain.ts';
import { createEventCheck, type EventCheck } from './event-check.ts';
import { type AuditFinding, createFindings, type Findings } from './findings.ts';
import { countUnsealedEvents, findAnchor, listSealsAfter } from './seal-store.ts';

/** What a verification found. */
export type AuditReport = {
  findings: readonly AuditFinding[];
  /** Findings beyond those that are listed. */
  moreFindings: number;
  seals: number;
  events: number;
  /** Sealed events of deleted users, of which only the commitment is left. */
  blankedEvents: number;
  /** Undefined while nothing has been sealed, or everything was removed. */
  head: (ChainLink & { sealedAtMs: number }) | undefined;
  /** What the retention has removed from the beginning; not authentic where the secret of who says so is not given. */
  removed: { throughSeal: number; events: number; atMs: number; isAuthentic: boolean } | undefined;
  unsealed: { count: number; oldestAtMs: number | null };
  /** Seals whose own secret is not given, and that a later one or the noted head vouches for. */
  vouchedSeals: number;
  /** The newest seals, whose secret is not given and that nothing vouches for. */
  unauthenticated: { fromSeal: number; throughSeal: number } | undefined;
  /** False where the retention has removed the seal that was noted, so that it could not be compared. */
  isExpectationChecked: boolean;
};

// A seal of 200 events has 18 KB.
const sealsPerRead = 20;

/**
 * Verifies the whole chain and every sealed event, in one pass and a few hundred rows at a time. Pass a transaction that
 * sees one state of the database: the service may go on writing meanwhile.
 */
export async function verifyAuditTrail(
  tx: Db,
  keyring: Pick<Keyring, 'all'>,
  { expected, onSeal = () => {} }: { expected?: ChainLink | undefined; onSeal?: (seals: number) => void } = {},
): Promise<AuditReport> {
  const findings = createFindings();
  const anchor = await findAnchor(tx);
  const walk = createWalk({ keyring, findings, anchor, expected });
  const eventCheck = createEventCheck(tx, findings);
  let seals = 0;
  for await (const seal of readSeals(tx, anchor?.seq ?? chainStart.seq)) {
    walk.passSeal(seal);
    await eventCheck.passSeal(seal);
    seals += 1;
    onSeal(seals);
  }
  await eventCheck.end();
  return {
    ...walk.end(),
    ...countChecked(eventCheck),
    ...findings.list(),
    seals,
    unsealed: await countUnsealedEvents(tx),
  };
}

function countChecked({ counts: { events, blankedEvents } }: EventCheck) {
  return { events, blankedEvents };
}

async function* readSeals(tx: Db, afterSeq: number): AsyncGenerator<AuditSealRow> {
  for (let seq = afterSeq; ; ) {
    const seals = await listSealsAfter(tx, seq, sealsPerRead);
    yield* seals;
    const last = seals.at(-1);
    if (last === undefined || seals.length < sealsPerRead) return;
    seq = last.seq;
  }
}

type WalkParts = {
  keyring: Pick<Keyring, 'all'>;
  findings: Findings;
  anchor: AuditAnchorRow | undefined;
  expected: ChainLink | undefined;
};

type WalkResult = Pick<AuditReport, 'head' | 'removed' | 'vouchedSeals' | 'unauthenticated' | 'isExpectationChecked'>;

/** Walks along the seals: each must follow the one before, be as it was made, and be made by us. */
function createWalk({ keyring, findings, anchor, expected }: WalkParts) {
  let previous: ChainLink = anchor ?? chainStart;
  let head: WalkResult['head'];
  let vouchedSeals = 0;
  // Seals that wait for a later one to vouch for them.
  let unknown: { fromSeal: number; count: number } | undefined;
  let isExpectationMet = false;
  const removed = anchor && judgeAnchor(anchor);

  function judgeAnchor(removal: AuditAnchorRow): NonNullable<WalkResult['removed']> {
    const authenticity = authenticateAnchor(keyring, removal);
    const { seq, total_count: events, removed_at: atMs } = removal;
    if (authenticity === 'forged') {
      findings.add(
        'anchor_forged',
        seq,
        null,
        `that the retention removed all up to seal ${seq} is not from this service`,
      );
    }
    meetExpectation(removal);
    return { throughSeal: seq, events, atMs, isAuthentic: authenticity !== 'unknown' };
  }

  function meetExpectation({ seq, digest }: ChainLink): boolean {
    if (seq !== expected?.seq) return false;
    isExpectationMet = true;
    if (digest === expected.digest) return true;
    findings.add('head_unexpected', seq, null, 'is not the one that was noted: the chain was made anew since then');
    return false;
  }

  function findFault(seal: AuditSealRow): boolean {
    const { seq } = seal;
    if (seq !== previous.seq + 1) {
      const last = seq - 1;
      const which = last === previous.seq + 1 ? 'this seal is' : `the seals up to ${last} are`;
      findings.add('seal_missing', previous.seq + 1, null, `${which} missing`);
      return true;
    }
    if (seal.previous_digest !== previous.digest) {
      findings.add('seal_out_of_order', seq, null, 'does not follow the seal before it');
    } else if (digestSeal(seal) !== seal.digest) {
      findings.add('seal_changed', seq, null, 'is not as it was made');
    } else if (authenticateSeal(keyring, seal) === 'forged') {
      findings.add('seal_forged', seq, null, 'was not made with the secret that it names');
    } else return false;
    return true;
  }

  return {
    passSeal(seal: AuditSealRow): void {
      const { seq, digest } = seal;
      const isFaulty = findFault(seal);
      const isNoted = meetExpectation(seal);
      previous = { seq, digest };
      head = { seq, digest, sealedAtMs: seal.sealed_at };
      if (isFaulty) return;
      const isKnown = authenticateSeal(keyring, seal) === 'genuine';
      if (!isKnown) unknown = { fromSeal: unknown?.fromSeal ?? seq, count: (unknown?.count ?? 0) + 1 };
      if (!isKnown && !isNoted) return;
      vouchedSeals += unknown?.count ?? 0;
      unknown = undefined;
    },
    end(): WalkResult {
      const isRemoved = expected !== undefined && expected.seq < (anchor?.seq ?? chainStart.seq);
      if (expected !== undefined && !isExpectationMet && !isRemoved) {
        findings.add(
          'head_unexpected',
          expected.seq,
          null,
          'was noted and is not there: the newest seals were cut off',
        );
      }
      const unauthenticated = unknown && { fromSeal: unknown.fromSeal, throughSeal: previous.seq };
      return { head, removed, vouchedSeals, unauthenticated, isExpectationChecked: !isRemoved };
    },
  };
}
