import { randomBytes } from 'node:crypto';
import { commitToDetails, commitToOrigin, digestEvent, makeSeal } from '../src/audit/chain.ts';
import type { DetailsOf } from '../src/audit/events.ts';
import { randomToken, type SecretRoot } from '../src/crypto/secrets.ts';
import type { AuditEventRow, AuditSealRow, SessionRow, UserRow } from '../src/db/schema.ts';

const dayMs = 24 * 60 * 60 * 1000;
const yearMs = 365 * dayMs;
const halfHourMs = 30 * 60 * 1000;
// All sessions are alive, and none of them for less than a day.
const sessionAgeMs = 6 * dayMs;
const userAgent =
  'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36';
const deviceLabel = 'Chrome on Linux';

/** An identifier of a moment in the past: a UUID version 7 (RFC 9562), like those that the service makes. */
export function idAt(timeMs: number): string {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(Math.floor(timeMs), 0, 6);
  bytes[6] = 0x70 | ((bytes[6] ?? 0) & 0x0f);
  bytes[8] = 0x80 | ((bytes[8] ?? 0) & 0x3f);
  const hex = bytes.toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

/** The address of the user with this number. */
export function emailOf(index: number): string {
  return `person${String(index).padStart(8, '0')}@example.com`;
}

/** Of a thousand users twenty are invited and ten disabled; neither has a session. */
export function statusOf(index: number): UserRow['status'] {
  const place = index % 1_000;
  if (place >= 990) return 'disabled';
  return place >= 970 ? 'invited' : 'active';
}

/**
 * Spreads things that follow each other in time over all users, so that neighbours in one index are none in
 * another.
 */
export function scatter(position: number, users: number): number {
  return Math.floor((position * strideOf(users)) % users);
}

/** A step that has no divisor in common with the number, so that its multiples meet every user once. */
function strideOf(users: number): number {
  let stride = Math.max(1, Math.floor(users * 0.618));
  while (greatestDivisor(stride, users) !== 1) stride += 1;
  return stride;
}

function greatestDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestDivisor(b, a % b);
}

/** The row of a user: they came one after the other during a year. */
export function makeUser(index: number, of: { users: number; nowMs: number; passwordHash: string }): UserRow {
  const createdAtMs = Math.floor(of.nowMs - yearMs + ((yearMs - sessionAgeMs) * index) / of.users);
  const status = statusOf(index);
  const isInvited = status === 'invited';
  return {
    id: idAt(createdAtMs),
    email: emailOf(index),
    name: index % 4 === 0 ? null : `Person Number ${index}`,
    locale: index % 2 === 0 ? 'en' : null,
    metadata: index % 3 === 0 ? '{"plan":"free"}' : '{}',
    status,
    password_hash: isInvited ? null : of.passwordHash,
    created_at: createdAtMs,
    updated_at: createdAtMs,
    last_login_at: isInvited ? null : of.nowMs - sessionAgeMs,
    proofs_valid_from: 0,
  };
}

/** The row of a session: `age` is 1 for the oldest and 0 for the newest. */
export function makeSession(
  userId: string,
  age: number,
  of: { nowMs: number; idleTtlSeconds: number; maxTtlSeconds: number },
): SessionRow {
  const createdAtMs = Math.floor(of.nowMs - sessionAgeMs * age);
  const rotatedAtMs = Math.floor(createdAtMs + (of.nowMs - createdAtMs) * Math.random());
  const expiresAtMs = createdAtMs + of.maxTtlSeconds * 1000;
  return {
    id: idAt(createdAtMs),
    user_id: userId,
    // As many refreshes as its access tokens have expired.
    generation: Math.floor((rotatedAtMs - createdAtMs) / halfHourMs),
    salt: randomToken(),
    created_at: createdAtMs,
    rotated_at: rotatedAtMs,
    authenticated_at: createdAtMs,
    idle_expires_at: Math.min(rotatedAtMs + of.idleTtlSeconds * 1000, expiresAtMs),
    expires_at: expiresAtMs,
    client_address: addressOf(createdAtMs),
    user_agent: userAgent,
    device_label: deviceLabel,
  };
}

/** The row of an event in a user's life: `age` is 1 for the oldest of all and 0 for the newest. */
export function makeEvent(userId: string, isFirst: boolean, age: number, nowMs: number): AuditEventRow {
  const occurredAtMs = Math.floor(nowMs - yearMs * age);
  const sessionId = idAt(occurredAtMs);
  const registered: DetailsOf<'user.registered'> = { session_id: sessionId };
  const loggedIn: DetailsOf<'login.succeeded'> = { method: 'password', session_id: sessionId };
  return {
    id: idAt(occurredAtMs),
    type: isFirst ? 'user.registered' : 'login.succeeded',
    occurred_at: occurredAtMs,
    actor_id: userId,
    user_id: userId,
    client_address: addressOf(occurredAtMs),
    user_agent: userAgent,
    request_id: idAt(occurredAtMs),
    details: JSON.stringify(isFirst ? registered : loggedIn),
    seal_seq: null,
    seal_origin_salt: null,
    seal_origin_commitment: null,
    seal_details_salt: null,
    seal_details_commitment: null,
  };
}

/** Seals events as the service would have done by now, so that it does not begin with that when it is measured. */
export function sealRows(
  root: SecretRoot,
  previous: Pick<AuditSealRow, 'seq' | 'digest' | 'total_count'>,
  events: readonly AuditEventRow[],
  sealedAtMs: number,
): { seal: AuditSealRow; events: AuditEventRow[] } {
  const sorted = events.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  const committed = sorted.map((event) => {
    const salts = { origin: randomToken(), details: randomToken() };
    return {
      event,
      salts,
      commitments: { origin: commitToOrigin(event, salts.origin), details: commitToDetails(event, salts.details) },
    };
  });
  const seal = makeSeal(
    root,
    { seq: previous.seq, digest: previous.digest, totalCount: previous.total_count },
    {
      manifest: committed.map(({ event, commitments }) => [event.id, digestEvent(event, commitments)] as const),
      sealedAtMs,
      newestEventAtMs: Math.max(...events.map((event) => event.occurred_at)),
    },
  );
  const sealed = committed.map(({ event, salts, commitments }) => ({
    ...event,
    seal_seq: seal.seq,
    seal_origin_salt: salts.origin,
    seal_origin_commitment: commitments.origin,
    seal_details_salt: salts.details,
    seal_details_commitment: commitments.details,
  }));
  return { seal, events: sealed };
}

// From the block that RFC 5737 keeps for documentation.
function addressOf(timeMs: number): string {
  return `203.0.113.${timeMs % 256}`;
}
