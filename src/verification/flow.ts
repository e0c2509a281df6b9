import { recordEvent } from '../audit/flow.ts';
import { generateCode, normalizeCode } from '../crypto/one-time-code.ts';
import { hmacSha256, randomToken } from '../crypto/secrets.ts';
import { inTransaction } from '../db/database.ts';
import { isForeignKeyViolation } from '../db/failures.ts';
import type { Db } from '../db/schema.ts';
import type { Deps } from '../deps.ts';
import { canonicalEmailAddress } from '../email-address.ts';
import { AppError, fieldRefused } from '../errors.ts';
import type { Message } from '../mail/messages.ts';
import type { RequestContext } from '../request-context.ts';
import { codeKey, handleOf, sendBudgetKey, tokenKey } from './entry-keys.ts';
import { type RequestablePurpose, type VerificationPurpose, verificationPurposes } from './purposes.ts';
import { type CodeRecipient, findRecipient, lockRecipient } from './store.ts';
import { issueVerificationToken, type Proof, type VerificationToken } from './tokens.ts';

/** How long a sent code works and when the next may be asked for, in seconds. */
export type SentCode = { expiresInSeconds: number; resendAfterSeconds: number };

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
  /** Writes the event, and whatever else is written when the mail is, in the same transaction. */
  record: (tx: Db, message: Message | undefined) => Promise<void>;
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
    record: (tx, message) => recordRequest(deps, tx, { purpose, owner, message }, context),
  });
  try {
    return await issueCode(deps, requestFor(recipient));
  } catch (error) {
    // The account was deleted while its code was on the way: the address has none now, and is treated so.
    if (recipient === undefined || !isForeignKeyViolation(error)) throw error;
    return issueCode(deps, requestFor(undefined));
  }
}

/** Sends the code that proves a new address of a user who is logged in, or tells the address's owner of the attempt. */
export async function sendEmailChangeCode(
  deps: Deps,
  input: { email: string; userId: string; locale: string | null; record: (tx: Db) => Promise<void> },
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
    return await issueCode(deps, requestFor(owner));
  } catch (error) {
    // The owner deleted the account meanwhile: the address is free. If it was the asker's, it fails again.
    if (owner === undefined || !isForeignKeyViolation(error)) throw error;
    return issueCode(deps, requestFor(undefined));
  }
}

/** Writes that a code was asked for. That an address has an account is the same one event, of another type. */
async function recordRequest(
  deps: Deps,
  tx: Db,
  request: { purpose: RequestablePurpose; owner: CodeRecipient | undefined; message: Message | undefined },
  context: RequestContext,
): Promise<void> {
  const { purpose, owner, message } = request;
  const subject = { userId: owner?.id ?? null, actorId: null };
  const nowMs = deps.clock.now();
  if (message?.kind === 'already_registered') {
    await recordEvent(tx, { type: 'registration.refused', ...subject, details: {} }, context, nowMs);
  } else {
    const details = { purpose, is_mailed: message !== undefined };
    await recordEvent(tx, { type: 'code.sent', ...subject, details }, context, nowMs);
  }
}

/** Mails a code within the budget of the address, with what else is to be written. */
export async function issueCode(deps: Deps, request: CodeRequest): Promise<SentCode> {
  try {
    return await writeCode(deps, request);
  } catch (error) {
    const isRefusal = error instanceof AppError && error.code !== 'temporarily_unavailable';
    // An account that was deleted meanwhile is not the end: the caller asks again without it.
    if (!isRefusal && !isForeignKeyViolation(error)) deps.metrics.countCodeFailed(request.purpose);
    throw error;
  }
}

async function writeCode(deps: Deps, request: CodeRequest): Promise<SentCode> {
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
      await request.record(tx, message);
      await deps.outbox.enqueue(tx, {
        to: message === undefined ? null : email,
        userId: recipient?.id ?? null,
        locale: recipient?.locale ?? null,
        message: message ?? codeMessage(deps, purpose, code),
        expiresAtMs: request.mailTtlMs === undefined ? expiresAtMs : deps.clock.now() + request.mailTtlMs,
      });
      // Last, so that nothing that fails before it ends the code that was sent earlier.
      const entry = { digest, payload, expiresAtMs, tries: codeTries };
      await deps.ephemeral.put(codeKey(email, purpose), entry, deps.clock.now());
    });
  });
  deps.metrics.countCodeSent(purpose, isTold ? 'code' : message === undefined ? 'nothing' : 'notice');
  deps.outbox.wake();
  return { expiresInSeconds: CODE_TTL_SECONDS, resendAfterSeconds };
}

/** Exchanges a right code for a verification token. Counts the try before comparing; five tries a code. */
export async function verifyCode(
  deps: Deps,
  input: { email: string; purpose: VerificationPurpose; code: string },
  context: RequestContext,
): Promise<VerificationToken> {
  const email = readEmailAddress(input.email);
  const code = normalizeCode(input.code);
  if (code === undefined) return refuseCode(deps, { email, purpose: input.purpose }, context);
  const digests = deps.keyring.all.map((root) => codeDigest(root.key('code'), email, input.purpose, code));
  const payload = await deps.ephemeral.take(codeKey(email, input.purpose), digests, deps.clock.now());
  if (payload === undefined) return refuseCode(deps, { email, purpose: input.purpose }, context);
  deps.metrics.countCodeChecked(input.purpose, 'accepted');
  return issueVerificationToken(deps, input.purpose, JSON.parse(payload) as Proof);
}

/** Refuses a code, with the same work whether the address has an account or not. The try is counted already. */
async function refuseCode(
  deps: Deps,
  { email, purpose }: { email: string; purpose: VerificationPurpose },
  context: RequestContext,
): Promise<never> {
  await inTransaction(deps.db, async (tx) => {
    // Held still, so that nothing of who tried is left behind when the account is deleted in this moment.
    const userId = await lockRecipient(tx, email);
    const event = { type: 'code.refused', userId: userId ?? null, actorId: null, details: { purpose } } as const;
    await recordEvent(tx, event, context, deps.clock.now());
  });
  deps.metrics.countCodeChecked(purpose, 'refused');
  throw new AppError('invalid_code');
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

/** Runs `send` if the address may be mailed now; gives the use back when sending fails. */
async function spendSendBudget(deps: Deps, email: string, send: () => Promise<void>): Promise<void> {
  const key = sendBudgetKey(email);
  const spentAtMs = deps.clock.now();
  const spent = await deps.ephemeral.spend(key, sendBudget, spentAtMs);
  if (!spent.allowed) {
    deps.metrics.countRateLimited('code_mails');
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

/** Reads an address in its canonical spelling, or refuses the field `email`. */
export function readEmailAddress(email: string): string {
  const canonical = canonicalEmailAddress(email);
  if (canonical === undefined) throw fieldRefused('/email', 'must be an e-mail address');
  return canonical;
}
