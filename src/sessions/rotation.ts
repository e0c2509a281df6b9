import { recordEvent } from '../audit/flow.ts';
import { isGenuineRefreshToken, parseRefreshToken } from '../crypto/refresh-token.ts';
import { inTransaction } from '../db/database.ts';
import type { Deps } from '../deps.ts';
import { AppError } from '../errors.ts';
import { notice } from '../mail/outbox.ts';
import type { RequestContext } from '../request-context.ts';
import { blockCachedSessions } from './cache.ts';
import { findLiveSession, type IssuedTokens, issueTokens } from './flow.ts';
import { advanceGeneration, deleteSession, type SessionWithUser } from './store.ts';

/** Exchanges a refresh token for its successor and a new access token. */
export async function refreshSession(deps: Deps, refreshToken: string, context: RequestContext): Promise<IssuedTokens> {
  try {
    return await exchange(deps, refreshToken, context);
  } catch (error) {
    if (error instanceof AppError && error.code === 'invalid_refresh_token') deps.metrics.countRefresh('refused');
    if (error instanceof AppError && error.code === 'refresh_token_reused') deps.metrics.countRefresh('reused');
    throw error;
  }
}

async function exchange(deps: Deps, refreshToken: string, context: RequestContext): Promise<IssuedTokens> {
  const parsed = parseRefreshToken(refreshToken);
  if (parsed === undefined) throw new AppError('invalid_refresh_token');
  const found = await findLiveSession(deps, parsed.sessionId);
  // What is not genuine ends nobody's session: knowing a session's id must not be enough to log it out.
  if (found === undefined || !isGenuineRefreshToken(deps.keyring, parsed, found.session.salt)) {
    throw new AppError('invalid_refresh_token');
  }
  const rotated = await rotate(deps, found, parsed.generation);
  if (rotated !== undefined) {
    deps.metrics.countRefresh('rotated');
    return issueTokens(deps, rotated);
  }
  return repeatOrEnd(deps, parsed.sessionId, parsed.generation, context);
}

/** Moves the session on if the token is its live one. Returns undefined when it is not, or no longer. */
async function rotate(deps: Deps, found: SessionWithUser, generation: number): Promise<SessionWithUser | undefined> {
  const { session } = found;
  if (session.generation !== generation) return undefined;
  const nowMs = deps.clock.now();
  const idleExpiresAtMs = Math.min(nowMs + deps.config.environment.SESSION_IDLE_TTL_SECONDS * 1000, session.expires_at);
  const advanced = await advanceGeneration(deps.db, { sessionId: session.id, generation, nowMs, idleExpiresAtMs });
  if (!advanced) return undefined;
  const next = { ...session, generation: generation + 1, rotated_at: nowMs, idle_expires_at: idleExpiresAtMs };
  return { ...found, session: next };
}

/**
 * Judges a genuine token that is not the live one. The one just replaced, within the grace, gets the same
 * successor again: a parallel tab or a lost reply. Anything older has been held by two parties.
 */
async function repeatOrEnd(
  deps: Deps,
  sessionId: string,
  generation: number,
  context: RequestContext,
): Promise<IssuedTokens> {
  // Read again: a parallel refresh may have moved the session on since the first read.
  const found = await findLiveSession(deps, sessionId);
  if (found === undefined) throw new AppError('invalid_refresh_token');
  const { session } = found;
  const graceMs = deps.config.environment.REFRESH_REUSE_GRACE_SECONDS * 1000;
  const wasJustReplaced = session.generation === generation + 1;
  if (wasJustReplaced && deps.clock.now() < session.rotated_at + graceMs) {
    deps.metrics.countRefresh('repeated');
    return issueTokens(deps, found);
  }
  // A generation that is not reached yet can only come from a database put back to an older state.
  if (generation >= session.generation) throw new AppError('invalid_refresh_token');
  await endForReuse(deps, found, context);
  throw new AppError('refresh_token_reused');
}

async function endForReuse(deps: Deps, { session, user }: SessionWithUser, context: RequestContext): Promise<void> {
  const nowMs = deps.clock.now();
  await inTransaction(deps.db, async (tx) => {
    // Of several parallel reuses, the one that ends the session reports it.
    if (!(await deleteSession(tx, session.id, user.id))) return;
    await blockCachedSessions(deps, user.id);
    await recordEvent(
      tx,
      // Two have held the token, and which of them came with it is not known.
      { type: 'session.reuse_detected', userId: user.id, actorId: null, details: { session_id: session.id } },
      context,
      nowMs,
    );
    await deps.outbox.enqueue(tx, notice(user, { kind: 'session_ended_for_reuse' }, nowMs));
  });
  deps.outbox.wake();
}
