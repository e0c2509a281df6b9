import { randomToken, type SecretRoot } from '../crypto/secrets.ts';
import { inTransaction } from '../db/database.ts';
import type { AuditEventRow } from '../db/schema.ts';
import type { Deps } from '../deps.ts';
import {
  type Authenticity,
  authenticateSeal,
  type ChainLink,
  chainStart,
  commitToDetails,
  commitToOrigin,
  digestEvent,
  makeSeal,
} from './chain.ts';
import {
  findAnchor,
  findNewestSeal,
  hasUnsealedEvents,
  insertSeal,
  lockUnsealedEvents,
  type SealedEvent,
  sealEvents,
} from './seal-store.ts';

type SealingDeps = Pick<Deps, 'db' | 'database' | 'keyring' | 'clock'>;

// One transaction for each, in which SQLite serves nobody else: a few milliseconds.
const eventsPerSeal = 200;

/** Whether events wait to be sealed: a read, so that a service where nothing happens writes nothing. */
export function hasEventsToSeal({ db }: Pick<Deps, 'db'>): Promise<boolean> {
  return hasUnsealedEvents(db);
}

/**
 * Seals the events that wait, one batch of them, and returns how many there were. Of two instances that do it at once one
 * fails with a unique violation, because a seal's number is there only once; nothing came of it then.
 */
export function sealNextBatch({ db, database, keyring, clock }: SealingDeps): Promise<number> {
  return inTransaction(db, async (tx) => {
    const events = await lockUnsealedEvents(tx, database.dialect, eventsPerSeal);
    if (events.length === 0) return 0;
    const newest = await findNewestSeal(tx);
    const {
      seq,
      digest,
      total_count: totalCount,
    } = newest ?? (await findAnchor(tx)) ?? { ...chainStart, total_count: 0 };
    const sealed = events.map(commit);
    const seal = makeSeal(
      keyring.current,
      { seq, digest, totalCount },
      {
        manifest: sealed.map(({ event, commitments }) => [event.id, digestEvent(event, commitments)] as const),
        sealedAtMs: clock.now(),
        newestEventAtMs: Math.max(...events.map((event) => event.occurred_at)),
      },
    );
    await insertSeal(tx, seal);
    await sealEvents(tx, seal.seq, sealed);
    return events.length;
  });
}

function commit(event: AuditEventRow): SealedEvent & { event: AuditEventRow } {
  const salts = { origin: randomToken(), details: randomToken() };
  const commitments = { origin: commitToOrigin(event, salts.origin), details: commitToDetails(event, salts.details) };
  return { event, id: event.id, salts, commitments };
}

/** The newest seal, as it is written to the log, and whether we made it. */
export type ChainHead = ChainLink & { authenticity: Authenticity };

/** Reads the newest seal; undefined while nothing has been sealed. */
export async function findChainHead(
  deps: Pick<Deps, 'db'> & { keyring: { all: readonly SecretRoot[] } },
): Promise<ChainHead | undefined> {
  const seal = await findNewestSeal(deps.db);
  if (seal === undefined) return undefined;
  return { seq: seal.seq, digest: seal.digest, authenticity: authenticateSeal(deps.keyring, seal) };
}
