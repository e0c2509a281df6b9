import { type Account, getAccount, type Profile, profileColumns } from '../account/flow.ts';
import { recordEvent } from '../audit/flow.ts';
import { newId } from '../crypto/ids.ts';
import { inTransaction } from '../db/database.ts';
import { isUniqueViolation } from '../db/failures.ts';
import type { Db } from '../db/schema.ts';
import type { Deps } from '../deps.ts';
import { rememberDevice } from '../devices/flow.ts';
import { AppError } from '../errors.ts';
import { requireAcceptablePassword } from '../password/flow.ts';
import { firstRole } from '../permissions.ts';
import type { RequestContext } from '../request-context.ts';
import { type IssuedTokens, issueTokens, openSession } from '../sessions/flow.ts';
import { type Proof, peekProof, useVerificationToken } from '../verification/tokens.ts';
import { activateInvited, insertUser, insertUserRole } from './store.ts';

/** What a registration brings: the proof of the address, the password, and optionally a profile. */
export type Registration = { verificationToken: string; password: string; profile: Profile };

/**
 * Creates the account of a proved address and logs its owner in. Everything that can be refused is judged
 * before the token is used up, so that a rejected password does not cost a new code.
 */
export async function register(
  deps: Deps,
  { verificationToken, password, profile }: Registration,
  context: RequestContext,
): Promise<{ tokens: IssuedTokens; account: Account }> {
  const columns = profileColumns(profile);
  const proof = await peekProof(deps, verificationToken, 'registration');
  requireAcceptablePassword(deps, password, proof.email, '/password');
  const passwordHash = await deps.passwords.hash(password, context.signal);

  const { session, account } = await useVerificationToken(deps, verificationToken, 'registration', (used) =>
    openAccount(deps, { proof: used, passwordHash, columns }, context),
  );
  deps.metrics.countRegistration();
  return { tokens: await issueTokens(deps, session), account };
}

type NewAccount = { proof: Proof; passwordHash: string; columns: ReturnType<typeof profileColumns> };

async function openAccount(deps: Deps, input: NewAccount, context: RequestContext) {
  const nowMs = deps.clock.now();
  try {
    return await inTransaction(deps.db, async (tx) => {
      const userId = (await acceptInvitation(tx, input, nowMs)) ?? (await insertAccount(tx, input, nowMs));
      await rememberDevice(deps, tx, userId, context);
      const session = await openSession(deps, tx, userId, context);
      const details = { session_id: session.session.id };
      await recordEvent(tx, { type: 'user.registered', userId, details }, context, nowMs);
      return { session, account: await getAccount(tx, userId) };
    });
  } catch (error) {
    // The unique index decides a race for the address; whoever holds this token owns it and may know.
    if (isUniqueViolation(error)) throw new AppError('account_exists', { cause: error });
    throw error;
  }
}

/** Whoever is invited and proves the address gets the account that was made for them, with its id and roles. */
function acceptInvitation(tx: Db, { proof, passwordHash, columns }: NewAccount, nowMs: number) {
  return activateInvited(tx, proof, { ...columns, password_hash: passwordHash }, nowMs);
}

async function insertAccount(tx: Db, { proof, passwordHash, columns }: NewAccount, nowMs: number): Promise<string> {
  const userId = newId();
  await insertUser(tx, {
    id: userId,
    email: proof.email,
    name: columns.name ?? null,
    locale: columns.locale ?? null,
    metadata: columns.metadata ?? '{}',
    status: 'active',
    password_hash: passwordHash,
    created_at: nowMs,
    updated_at: nowMs,
    last_login_at: nowMs,
  });
  await insertUserRole(tx, userId, firstRole);
  return userId;
}
