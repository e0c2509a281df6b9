import { recordEvent } from '../audit/flow.ts';
import { generateCode, normalizeCode } from '../crypto/one-time-code.ts';
import { hmacSha256, randomToken, sha256 } from '../crypto/secrets.ts';
import { inTransaction } from '../db/database.ts';
import { isForeignKeyViolation } from '../db/failures.ts';
import type { Db } from '../db/schema.ts';
import type { Deps } from '../deps.ts';
import { canonicalEmailAddress } from '../email-address.ts';
import { AppError, fieldRefused } from '../errors.ts';
import type { Message } from '../mail/messages.ts';
import type { RequestContext } from '../request-context.ts';
import { type CodeRecipient, findRecipient } from './store.ts';

/** What an address can be proved for. A proof for one purpose is worth nothing for another. */
export const verificationPurposes = ['registration', 'login', 'password_reset', 'email_change'] as const;
export type VerificationPurpose = (typeof verificationPurposes)[number];
export type RequestablePurpose = Exclude<VerificationPurpose, 'email_change'>;

/** How long a sent code works and when the next may be asked for, in seconds. */
export type SentCode = { expiresInSeconds: number; resendAfterSeconds: number };

/** A proof of an address that can be used once. */
export type VerificationToken = { token: string; expiresInSeconds: number };

/** What a verification token proves. */
export type Proof = {
  email: string;
  /** Who asked for the code, where that was a user who was logged in. */
  userId: string | null;
  /** When the code was sent: what was decided about the account since then outlives the proof. */
  sentAtMs: number;
};

/** A proof as it is kept: with its end, so that giving it back does not prolong it. */
type StoredProof = Proof & { expiresAtMs: number };

/** A code on its way: what it is for, and what is mailed to the address. */
export type CodeRequest = {
  email: string;
  purpose: VerificationPurpose;
  /** Who asks, where that is a user who is logged in. */
  userId: string | null;
  /** Whose account the mail is about. */
  recipient: Pick<CodeRecipient, 'id' | 'locale'> | undefined;
  /** Makes the mail around the code; undefined where nobody is to be mailed. */
  compose: (code: string) => Message | undefined;
  /** What else is written when the mail is, in the same transaction. */
  record?: (tx: Db) => Promise<void>;
  /** Who asks on behalf of the owner, where that is an administrator. */
  actorId?: string;
  /** For how long the mail is worth delivering, where that is longer than the code works. */
  mailTtlMs?: number;
};

const codeTries = 5;
const resendAfterSeconds = 60;
const minuteMs = 60_000;
// Counted alike for every address and purpose, so that the answer tells nothing and a mailbox is not flooded.
const sendBudget = [
  { uses: 1, perMs: resendAfterSeconds * 1000 },
  { uses: 5, perMs: 60 * minuteMs },
  { uses: 10, perMs: 24 * 60 * minuteMs },
];
const tokenTtlSeconds = 600;
const tokenPattern = /^([A-Za-z0-9_-]{22})\.([A-Za-z0-9_-]{43})$/;

/** The longest text that is looked at as a verification token. */
export const verificationTokenMaxLength = 128;

/** Sends a code for the purpose, or what the owner should read instead. The answer is always the same. */
export async function sendCode(
  deps: Deps,
  input: { email: string; purpose: RequestablePurpose },
  context: RequestContext,
): Promise<SentCode> {
  const { purpose } = input;
  const email = readEmailAddress(input.email);
  const recipient = await findRecipient(deps.db, email);
  const requestFor = (owner: CodeRecipient | undefined): CodeRequest => ({
    email,
    purpose,
    userId: null,
    recipient: owner,
    compose: (code) => chooseMessage(deps, purpose, owner, code),
  });
  try {
    return await issueCode(deps, requestFor(recipient), context);
  } catch (error) {
    // The account was deleted while its code was on the way: the address has none now, and is treated so.
    if (recipient === undefined || !isForeignKeyViolation(error)) throw error;
    return issueCode(deps, requestFor(undefined), context);
  }
}

/** Sends the code that proves a new address of a user who is logged in, or tells the address's owner of the attempt. */
export async function sendEmailChangeCode(
  deps: Deps,
  input: { email: string; userId: string; locale: string | null; record: (tx: Db) => Promise<void> },
  context: RequestContext,
): Promise<SentCode> {
  const { email, userId, locale, record } = input;
  const requestFor = (owner: CodeRecipient | undefined): CodeRequest => ({
    email,
    purpose: 'email_change',
    userId,
    // The mail goes with the account that it is about: the owner's of the address, or else the asker's.
    recipient: owner ?? { id: userId, locale },
    compose: (code) => (owner === undefined ? codeMessage(deps, 'email_change', code) : { kind: 'address_in_use' }),
    record,
  });
  const owner = await findRecipient(deps.db, email);
  try {
    return await issueCode(deps, requestFor(owner), context);
  } catch (error) {
    // The owner deleted the account meanwhile: the address is free. If it was the asker's, it fails again.
    if (owner === undefined || !isForeignKeyViolation(error)) throw error;
    return issueCode(deps, requestFor(undefined), context);
  }
}

/** Mails a code within the budget of the address, with what else is to be written. */
export async function issueCode(
  deps: Deps,
  request: CodeRequest,
  context: RequestContext | undefined,
): Promise<SentCode> {
  const { email, purpose, userId, recipient } = request;
  const { CODE_TTL_SECONDS } = deps.config.environment;
  const code = generateCode();
  const message = request.compose(code);
  // Where nobody is told the code, nothing that can be guessed is kept: the digest is of no code at all.
  const isTold = message?.kind === 'code' || message?.kind === 'invitation';
  const digest = isTold ? codeDigest(deps.keyring.current.key('code'), email, purpose, code) : randomToken();
  const expiresAtMs = deps.clock.now() + CODE_TTL_SECONDS * 1000;

  await spendSendBudget(deps, email, async () => {
    const payload = JSON.stringify({ email, userId, sentAtMs: deps.clock.now() } satisfies Proof);
    await inTransaction(deps.db, async (tx) => {
      await request.record?.(tx);
      await deps.outbox.enqueue(tx, {
        to: message === undefined ? null : email,
        userId: recipient?.id ?? null,
        locale: recipient?.locale ?? null,
        message: message ?? codeMessage(deps, purpose, code),
        expiresAtMs: request.mailTtlMs === undefined ? expiresAtMs : deps.clock.now() + request.mailTtlMs,
      });
      const event = { type: 'code.sent', userId: userId ?? recipient?.id ?? null, details: { purpose } } as const;
      const actor = request.actorId === undefined ? {} : { actorId: request.actorId };
      await recordEvent(tx, { ...event, ...actor }, context, deps.clock.now());
      // Last, so that nothing that fails before it ends the code that was sent earlier.
      const entry = { digest, payload, expiresAtMs, tries: codeTries };
      await deps.ephemeral.put(codeKey(email, purpose), entry, deps.clock.now());
    });
  });
  deps.outbox.wake();
  return { expiresInSeconds: CODE_TTL_SECONDS, resendAfterSeconds };
}

/** Exchanges a right code for a verification token. Counts the try before comparing; five tries a code. */
export async function verifyCode(
  deps: Deps,
  input: { email: string; purpose: VerificationPurpose; code: string },
): Promise<VerificationToken> {
  const email = readEmailAddress(input.email);
  const code = normalizeCode(input.code);
  if (code === undefined) throw new AppError('invalid_code');
  const digests = deps.keyring.all.map((root) => codeDigest(root.key('code'), email, input.purpose, code));
  const payload = await deps.ephemeral.take(codeKey(email, input.purpose), digests, deps.clock.now());
  if (payload === undefined) throw new AppError('invalid_code');
  return issueVerificationToken(deps, input.purpose, JSON.parse(payload) as Proof);
}

/** Says what a verification token proves, without using it up. */
export async function peekProof(deps: Deps, token: string, purpose: VerificationPurpose): Promise<Proof> {
  const parsed = parseToken(token);
  const payload =
    parsed && (await deps.ephemeral.peek(tokenKey(parsed.handle, purpose), parsed.digest, deps.clock.now()));
  if (payload === undefined) throw new AppError('invalid_verification_token');
  return JSON.parse(payload) as Proof;
}

/**
 * Uses a verification token up for one act: of any number of parallel uses one gets through. When the act
 * fails because a component is away, the token is given back, so that the same request can be repeated.
 */
export async function useVerificationToken<T>(
  deps: Deps,
  token: string,
  purpose: VerificationPurpose,
  act: (proof: Proof) => Promise<T>,
): Promise<T> {
  const parsed = parseToken(token);
  if (parsed === undefined) throw new AppError('invalid_verification_token');
  const key = tokenKey(parsed.handle, purpose);
  const payload = await deps.ephemeral.take(key, [parsed.digest], deps.clock.now());
  if (payload === undefined) throw new AppError('invalid_verification_token');
  const proof = JSON.parse(payload) as StoredProof;
  try {
    return await act(proof);
  } catch (error) {
    if (!(error instanceof AppError)) {
      const entry = { digest: parsed.digest, payload, expiresAtMs: proof.expiresAtMs };
      await deps.ephemeral.put(key, entry, deps.clock.now()).catch((lost: unknown) => {
        deps.log.warn({ err: lost }, 'a verification token could not be given back');
      });
    }
    throw error;
  }
}

/** Removes every code and verification token of an address. The budget of mails stays. */
export async function forgetAddress(deps: Deps, email: string): Promise<void> {
  const keys = verificationPurposes.flatMap((purpose) => [codeKey(email, purpose), tokenKey(handleOf(email), purpose)]);
  try {
    await deps.ephemeral.remove(keys);
  } catch (error) {
    // They expire within minutes and prove nothing but the address; the act that asked for this is done.
    deps.log.warn({ err: error }, 'codes and tokens of an address could not be removed and will expire');
  }
}

async function issueVerificationToken(
  deps: Deps,
  purpose: VerificationPurpose,
  proof: Proof,
): Promise<VerificationToken> {
  const secret = randomToken();
  const handle = handleOf(proof.email);
  const nowMs = deps.clock.now();
  const expiresAtMs = nowMs + tokenTtlSeconds * 1000;
  const payload = JSON.stringify({ ...proof, expiresAtMs } satisfies StoredProof);
  await deps.ephemeral.put(tokenKey(handle, purpose), { digest: sha256(secret), payload, expiresAtMs }, nowMs);
  return { token: `${handle}.${secret}`, expiresInSeconds: tokenTtlSeconds };
}

/** Runs `send` if the address may be mailed now; gives the use back when sending fails. */
async function spendSendBudget(deps: Deps, email: string, send: () => Promise<void>): Promise<void> {
  const key = `{${handleOf(email)}}:sends`;
  const spentAtMs = deps.clock.now();
  const spent = await deps.ephemeral.spend(key, sendBudget, spentAtMs);
  if (!spent.allowed) {
    throw new AppError('too_many_requests', {
      detail: 'This address was mailed a moment ago, or too often. Retry-After says when the next mail can be sent.',
      retryAfterSeconds: Math.ceil(spent.retryAfterMs / 1000),
    });
  }
  try {
    await send();
  } catch (error) {
    await deps.ephemeral.refund(key, spentAtMs).catch(() => {});
    throw error;
  }
}

function chooseMessage(
  deps: Deps,
  purpose: RequestablePurpose,
  recipient: CodeRecipient | undefined,
  code: string,
): Message | undefined {
  if (purpose === 'registration') {
    const hasAccount = recipient !== undefined && recipient.status !== 'invited';
    return hasAccount ? { kind: 'already_registered' } : codeMessage(deps, purpose, code);
  }
  return recipient?.status === 'active' ? codeMessage(deps, purpose, code) : undefined;
}

function codeMessage(deps: Deps, purpose: VerificationPurpose, code: string): Message {
  return { kind: 'code', purpose, code, expiresInMinutes: expiresInMinutes(deps) };
}

/** For how long a code works, as mails say it. */
export function expiresInMinutes(deps: Deps): number {
  return Math.floor(deps.config.environment.CODE_TTL_SECONDS / 60);
}

function codeDigest(key: Buffer, email: string, purpose: VerificationPurpose, code: string): string {
  return hmacSha256(key, [purpose, email, code]);
}

function parseToken(token: string): { handle: string; digest: string } | undefined {
  const [, handle, secret] = tokenPattern.exec(token) ?? [];
  return handle === undefined || secret === undefined ? undefined : { handle, digest: sha256(secret) };
}

/** Names an address in keys and tokens: 132 bits of its hash. The braces below keep its keys in one cluster slot. */
function handleOf(email: string): string {
  return sha256(email).slice(0, 22);
}

function codeKey(email: string, purpose: VerificationPurpose): string {
  return `{${handleOf(email)}}:code:${purpose}`;
}

function tokenKey(handle: string, purpose: VerificationPurpose): string {
  return `{${handle}}:token:${purpose}`;
}

/** Reads an address in its canonical spelling, or refuses the field `email`. */
export function readEmailAddress(email: string): string {
  const canonical = canonicalEmailAddress(email);
  if (canonical === undefined) throw fieldRefused('/email', 'must be an e-mail address');
  return canonical;
}
