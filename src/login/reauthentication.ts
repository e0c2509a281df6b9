import { recordEvent } from '../audit/flow.ts';
import { inTransaction } from '../db/database.ts';
import type { Deps } from '../deps.ts';
import { AppError } from '../errors.ts';
import { type Attempt, forgetFailures, tryPassword, withRightPassword } from '../guessing/flow.ts';
import type { RequestContext } from '../request-context.ts';
import { renewAuthentication } from '../sessions/flow.ts';
import type { Principal } from '../sessions/principal.ts';
import { peekProof, useVerificationToken } from '../verification/tokens.ts';
import { refusePassword } from './refusal.ts';
import { findCandidateById, type LoginCandidate, lockIfUnchanged } from './store.ts';

/** What proves again who the user is: the password, or the address proved for `login`. */
export type Reauthentication = { password: string } | { verificationToken: string };

/** Makes the session's authentication recent (RFC 9470), so that it may do what needs one. */
export async function reauthenticate(
  deps: Deps,
  principal: Principal,
  proof: Reauthentication,
  context: RequestContext,
): Promise<void> {
  const candidate = await findCandidateById(deps.db, principal.userId);
  if (candidate === undefined) throw new AppError('invalid_token');
  if ('password' in proof) await byPassword(deps, principal, candidate, proof.password, context);
  else await byCode(deps, principal, candidate, proof.verificationToken, context);
}

async function byPassword(
  deps: Deps,
  principal: Principal,
  candidate: LoginCandidate,
  password: string,
  context: RequestContext,
): Promise<void> {
  const target = { email: candidate.email, owner: candidate, sessionId: principal.sessionId };
  const attempt = await tryPassword(deps, target, password, context);
  if (!attempt.matches) await refusePassword(deps, { owner: candidate, attempt, use: 'reauthentication' }, context);
  await withRightPassword(deps, attempt, () =>
    complete(deps, principal, candidate, { method: 'password', attempt }, context),
  );
}

async function byCode(
  deps: Deps,
  principal: Principal,
  candidate: LoginCandidate,
  token: string,
  context: RequestContext,
): Promise<void> {
  // Judged before it is used up: a proof of another address is left to its owner.
  const { email } = await peekProof(deps, token, 'login');
  if (email !== candidate.email) throw new AppError('invalid_verification_token');
  await useVerificationToken(deps, token, 'login', ({ sentAtMs }) =>
    complete(deps, principal, candidate, { method: 'code', proofSentAtMs: sentAtMs }, context),
  );
}

async function complete(
  deps: Deps,
  principal: Principal,
  candidate: LoginCandidate,
  proven: { method: 'password'; attempt: Attempt } | { method: 'code'; proofSentAtMs: number },
  context: RequestContext,
): Promise<void> {
  const { method } = proven;
  const proofSentAtMs = method === 'code' ? proven.proofSentAtMs : undefined;
  await inTransaction(deps.db, async (tx) => {
    // The password, the address or the status may have changed since it was checked.
    if (!(await lockIfUnchanged(tx, candidate, proofSentAtMs))) {
      throw new AppError(method === 'password' ? 'invalid_credentials' : 'invalid_verification_token');
    }
    if (method === 'password') await forgetFailures(tx, proven.attempt);
    await renewAuthentication(deps, tx, principal);
    const event = { type: 'session.reauthenticated', userId: candidate.id, details: { method } } as const;
    await recordEvent(tx, event, context, deps.clock.now());
  });
  if (method === 'password') deps.metrics.countConfirmation('reauthentication', 'succeeded');
}
