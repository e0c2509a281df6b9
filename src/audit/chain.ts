import { constantTimeEqual, hmacSha256, type Keyring, type SecretRoot, sha256 } from '../crypto/secrets.ts';
import type { AuditAnchorRow, AuditEventRow, AuditSealRow } from '../db/schema.ts';

/** A place in the chain: what the next seal follows, and what an operator notes down. */
export type ChainLink = { seq: number; digest: string };

/** The id of each sealed event with its digest, in the order of the ids. */
export type Manifest = readonly (readonly [id: string, digest: string])[];

/** What the first seal follows. */
export const chainStart: ChainLink = { seq: 0, digest: '' };

// JSON of a list of values has one reading. Each kind of digest begins with a name of its own, so that none can be taken
// for another; a changed encoding is a new name.
const names = {
  origin: 'origin/1',
  details: 'details/1',
  event: 'event/1',
  seal: 'seal/1',
  anchor: 'anchor/1',
} as const;

function digestOf(name: keyof typeof names, values: readonly (string | number | null)[]): string {
  return sha256(JSON.stringify([`latchkey/audit/${names[name]}`, ...values]));
}

/** Commits to where an act came from. Without the salt nobody can find the values by trying them. */
export function commitToOrigin(event: Pick<AuditEventRow, 'client_address' | 'user_agent'>, salt: string): string {
  return digestOf('origin', [salt, event.client_address, event.user_agent]);
}

/** Commits in the same way to the details, which are blanked with the one whom the event is about. */
export function commitToDetails(event: Pick<AuditEventRow, 'details'>, salt: string): string {
  return digestOf('details', [salt, event.details]);
}

/** What a seal holds of that which an erasure blanks. */
export type Commitments = { origin: string; details: string };

/** The digest of an event: what never changes as it stands, and the rest by its commitments. */
export function digestEvent(
  event: Pick<AuditEventRow, 'id' | 'type' | 'occurred_at' | 'actor_id' | 'user_id' | 'request_id'>,
  { origin, details }: Commitments,
): string {
  const { id, type, occurred_at, actor_id, user_id, request_id } = event;
  return digestOf('event', [id, type, occurred_at, actor_id, user_id, request_id, origin, details]);
}

/** The digest of a seal, by which the next one follows it. Needs no key, so that it can still be checked without. */
export function digestSeal(seal: Omit<AuditSealRow, 'digest' | 'mac'>): string {
  return digestOf('seal', [
    seal.seq,
    seal.sealed_at,
    seal.newest_event_at,
    seal.event_count,
    seal.total_count,
    sha256(seal.manifest),
    seal.previous_digest,
    seal.key_fingerprint,
  ]);
}

/** Makes a seal over a manifest. */
export function makeSeal(
  root: SecretRoot,
  previous: ChainLink & { totalCount: number },
  batch: { manifest: Manifest; sealedAtMs: number; newestEventAtMs: number },
): AuditSealRow {
  const seal = {
    seq: previous.seq + 1,
    sealed_at: batch.sealedAtMs,
    newest_event_at: batch.newestEventAtMs,
    event_count: batch.manifest.length,
    total_count: previous.totalCount + batch.manifest.length,
    manifest: JSON.stringify(batch.manifest),
    previous_digest: previous.digest,
    key_fingerprint: root.fingerprint,
  };
  const digest = digestSeal(seal);
  return { ...seal, digest, mac: hmacSha256(root.key('audit'), ['seal', digest]) };
}

/** Makes the anchor that stands for all the seals up to this one, which the retention removes. */
export function makeAnchor(
  root: SecretRoot,
  last: Pick<AuditSealRow, 'seq' | 'digest' | 'total_count'>,
  removedAtMs: number,
): AuditAnchorRow {
  const { seq, digest, total_count } = last;
  const anchor = { seq, digest, total_count, removed_at: removedAtMs, key_fingerprint: root.fingerprint };
  return { ...anchor, mac: macOfAnchor(root, anchor) };
}

function macOfAnchor(root: SecretRoot, anchor: Omit<AuditAnchorRow, 'mac'>): string {
  const { seq, digest, total_count, removed_at } = anchor;
  return hmacSha256(root.key('audit'), ['anchor', digestOf('anchor', [seq, digest, total_count, removed_at])]);
}

/** What a MAC says of who made a seal: us, somebody else, or nothing, because the secret that it names is not given. */
export type Authenticity = 'genuine' | 'forged' | 'unknown';

/** Judges whether a seal was made with the secret that it names. */
export function authenticateSeal(
  keyring: Pick<Keyring, 'all'>,
  seal: Pick<AuditSealRow, 'digest' | 'mac' | 'key_fingerprint'>,
): Authenticity {
  return authenticate(keyring, seal, (root) => hmacSha256(root.key('audit'), ['seal', seal.digest]));
}

/** Judges whether an anchor was made with the secret that it names. */
export function authenticateAnchor(keyring: Pick<Keyring, 'all'>, anchor: AuditAnchorRow): Authenticity {
  return authenticate(keyring, anchor, (root) => macOfAnchor(root, anchor));
}

function authenticate(
  keyring: Pick<Keyring, 'all'>,
  made: { mac: string; key_fingerprint: string },
  macUnder: (root: SecretRoot) => string,
): Authenticity {
  const root = keyring.all.find(({ fingerprint }) => fingerprint === made.key_fingerprint);
  if (root === undefined) return 'unknown';
  return constantTimeEqual(macUnder(root), made.mac) ? 'genuine' : 'forged';
}
