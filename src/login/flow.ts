import { type Account, getAccount } from '../account/flow.ts';
import { recordEvent } from '../audit/flow.ts';
import { inTransaction } from '../db/database.ts';
import type { Deps } from '../deps.ts';
import { noticeDevice } from '../devices/flow.ts';
import { AppError } from '../errors.ts';
import { type Attempt, forgetFailures, tryPassword, withRightPassword } from '../guessing/flow.ts';
import type { RequestContext } from '../request-context.ts';
import { type IssuedTokens, issueTokens, openSession } from '../sessions/flow.ts';
import { readEmailAddress } from '../verification/flow.ts';
import { useVerificationToken } from '../verification/tokens.ts';
import { refusePassword, refuseProof } from './refusal.ts';
import { findCandidate, type LoginCandidate, recordLogin, replaceOutdatedHash } from './store.ts';

type Proven = { method: 'password'; attempt: Attempt } | { method: 'code'; proofSentAtMs: number };
type LoginResult = { tokens: IssuedTokens; account: Account };
type CommittedLogin = { session: Awaited<ReturnType<typeof openSession>>; account: Account };

/**
 * Logs in by address and password. Unknown, disabled and wrong take the same steps: one hash is computed
 * and one event is written, so that neither the answer nor its time tells them apart.
 */
export async function logIn(
  deps: Deps,
  input: { email: string; password: string },
  context: RequestContext,
): Promise<LoginResult> {
  const email = readEmailAddress(input.email);
  const candidate = await findCandidate(deps.db, email);
  const attempt = await tryPassword(deps, { email, owner: candidate }, input.password, context);
  if (candidate === undefined || !attempt.matches || candidate.status !== 'active') {
    return refusePassword(deps, { owner: candidate, attempt, use: 'password' }, context);
  }
  const login = await withRightPassword(deps, attempt, () =>
    completeLogin(deps, candidate, { method: 'password', attempt }, context),
  );
  if (attempt.check.outdated && candidate.password_hash !== null) {
    await rehash(deps, candidate.id, candidate.password_hash, input.password);
  }
  return withTokens(deps, login);
}

/** Logs in by an address proved with an e-mailed code. */
export async function logInWithCode(
  deps: Deps,
  input: { verificationToken: string },
  context: RequestContext,
): Promise<LoginResult> {
  const login = await useVerificationToken(deps, input.verificationToken, 'login', async ({ email, sentAtMs }) => {
    const candidate = await findCandidate(deps.db, email);
    // Disabled or deleted since the code was sent. The proof itself was good, but there is nobody to log in.
    if (candidate?.status !== 'active') return refuseProof(deps, candidate?.id ?? null, context);
    return completeLogin(deps, candidate, { method: 'code', proofSentAtMs: sentAtMs }, context);
  }).catch((error: unknown) => {
    if (error instanceof AppError && error.code === 'invalid_verification_token') {
      deps.metrics.countLogin('code', 'refused_proof');
    }
    throw error;
  });
  return withTokens(deps, login);
}

async function completeLogin(
  deps: Deps,
  candidate: LoginCandidate,
  proven: Proven,
  context: RequestContext,
): Promise<CommittedLogin> {
  const { method } = proven;
  const proofSentAtMs = method === 'code' ? proven.proofSentAtMs : undefined;
  const nowMs = deps.clock.now();
  const login = await inTransaction(deps.db, async (tx) => {
    if (!(await recordLogin(tx, candidate, { nowMs, proofSentAtMs }))) {
      throw new AppError(method === 'password' ? 'invalid_credentials' : 'invalid_verification_token');
    }
    if (method === 'password') await forgetFailures(tx, proven.attempt);
    await noticeDevice(deps, tx, candidate, context);
    const opened = await openSession(deps, tx, candidate.id, context);
    const details = { method, session_id: opened.session.id };
    await recordEvent(tx, { type: 'login.succeeded', userId: candidate.id, details }, context, nowMs);
    return { session: opened, account: await getAccount(tx, candidate.id) };
  });
  deps.metrics.countLogin(method, 'succeeded');
  deps.outbox.wake();
  return login;
}

/** Signs the tokens of a login that is committed, outside everything that a failure could still take back. */
async function withTokens(deps: Deps, { session, account }: CommittedLogin): Promise<LoginResult> {
  return { tokens: await issueTokens(deps, session), account };
}

/** Brings a hash up to today's scheme while the password is known. The login is done and does not depend on it. */
async function rehash(deps: Deps, userId: string, oldHash: string, password: string): Promise<void> {
  try {
    const newHash = await deps.passwords.hash(password);
    await replaceOutdatedHash(deps.db, { userId, oldHash, newHash });
  } catch (error) {
    deps.log.warn({ err: error, user_id: userId }, 'an outdated password hash was left for the next login');
  }
}
