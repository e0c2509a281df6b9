import { recordEvent } from '../audit/flow.ts';
import { inTransaction } from '../db/database.ts';
import type { Deps } from '../deps.ts';
import { AppError } from '../errors.ts';
import type { RequestContext } from '../request-context.ts';
import { type Principal, renewAuthentication } from '../sessions/flow.ts';
import { peekProof, useVerificationToken } from '../verification/flow.ts';
import { findCandidateById, isUnchanged, type LoginCandidate } from './store.ts';

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
  const check = await deps.passwords.verify(password, candidate.password_hash, context.signal);
  if (!check.matches) {
    // Written where a failed login is written: it is the same guess at the same password.
    const event = { type: 'login.failed', userId: candidate.id, details: { method: 'reauthentication' } } as const;
    await recordEvent(deps.db, event, context, deps.clock.now());
    throw new AppError('invalid_credentials');
  }
  await complete(deps, principal, candidate, 'password', context);
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
  await useVerificationToken(deps, token, 'login', () => complete(deps, principal, candidate, 'code', context));
}

async function complete(
  deps: Deps,
  principal: Principal,
  candidate: LoginCandidate,
  method: 'password' | 'code',
  context: RequestContext,
): Promise<void> {
  await inTransaction(deps.db, async (tx) => {
    // The password, the address or the status may have changed since it was checked.
    if (!(await isUnchanged(tx, candidate))) throw new AppError('invalid_credentials');
    await renewAuthentication(deps, tx, principal);
    const event = { type: 'session.reauthenticated', userId: candidate.id, details: { method } } as const;
    await recordEvent(tx, event, context, deps.clock.now());
  });
}
