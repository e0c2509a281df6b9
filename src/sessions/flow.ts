import { recordEvent } from '../audit/flow.ts';
import { newId } from '../crypto/ids.ts';
import { isGenuineRefreshToken, makeRefreshToken, parseRefreshToken } from '../crypto/refresh-token.ts';
import { randomToken } from '../crypto/secrets.ts';
import { inTransaction } from '../db/database.ts';
import type { Db, SessionRow } from '../db/schema.ts';
import type { Deps } from '../deps.ts';
import { AppError } from '../errors.ts';
import { noticeTtlMs } from '../mail/outbox.ts';
import type { RequestContext } from '../request-context.ts';
import {
  advanceGeneration,
  deleteSession,
  deleteSessionsOfUser,
  deleteSessionsOverCap,
  findSessionWithUser,
  insertSession,
  type SessionWithUser,
} from './store.ts';

/** Who makes a request, as the guard found it in the database just now. */
export type Principal = {
  userId: string;
  sessionId: string;
  /** When the user last proved who they are in this session, in milliseconds since the epoch. */
  authenticatedAtMs: number;
  roles: readonly string[];
  permissions: readonly string[];
};

/** The tokens of RFC 6749 section 5.1, durations in seconds. */
export type IssuedTokens = {
  accessToken: string;
  expiresInSeconds: number;
  refreshToken: string;
  refreshTokenExpiresInSeconds: number;
};

/** How recent an authentication must be for what could take an account away from its owner. */
export const recentAuthenticationSeconds = 300;

/** Opens a session for a user who has just proved who they are. Pass the transaction of the login. */
export async function openSession(deps: Deps, tx: Db, userId: string, context: RequestContext): Promise<string> {
  const { SESSION_IDLE_TTL_SECONDS, SESSION_MAX_TTL_SECONDS, SESSIONS_PER_USER_MAX } = deps.config.environment;
  const nowMs = deps.clock.now();
  const id = newId();
  await insertSession(tx, {
    id,
    user_id: userId,
    generation: 0,
    salt: randomToken(),
    created_at: nowMs,
    rotated_at: nowMs,
    authenticated_at: nowMs,
    idle_expires_at: nowMs + SESSION_IDLE_TTL_SECONDS * 1000,
    expires_at: nowMs + SESSION_MAX_TTL_SECONDS * 1000,
    client_address: context.clientAddress,
    user_agent: context.userAgent,
  });
  await deleteSessionsOverCap(tx, userId, SESSIONS_PER_USER_MAX);
  return id;
}

/** Issues the first tokens of a session that was just opened and committed. */
export async function issueTokens(deps: Deps, sessionId: string): Promise<IssuedTokens> {
  const found = await findSessionWithUser(deps.db, sessionId);
  // Ended in the instant since it was opened: by deletion, or by the cap.
  if (found === undefined) throw new AppError('invalid_credentials');
  return tokensFor(deps, found);
}

/** Exchanges a refresh token for its successor and a new access token. */
export async function refreshSession(deps: Deps, refreshToken: string, context: RequestContext): Promise<IssuedTokens> {
  const parsed = parseRefreshToken(refreshToken);
  if (parsed === undefined) throw new AppError('invalid_refresh_token');
  const found = await findLiveSession(deps, parsed.sessionId);
  // What is not genuine ends nobody's session: knowing a session's id must not be enough to log it out.
  if (found === undefined || !isGenuineRefreshToken(deps.keyring, parsed, found.session.salt)) {
    throw new AppError('invalid_refresh_token');
  }
  const rotated = await rotate(deps, found, parsed.generation);
  if (rotated !== undefined) return tokensFor(deps, rotated);
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
  if (wasJustReplaced && deps.clock.now() < session.rotated_at + graceMs) return tokensFor(deps, found);
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
    await recordEvent(
      tx,
      { type: 'session.reuse_detected', userId: user.id, details: { session_id: session.id } },
      context,
      nowMs,
    );
    await deps.outbox.enqueue(tx, {
      to: user.email,
      userId: user.id,
      locale: user.locale,
      message: { kind: 'session_ended_for_reuse' },
      expiresAtMs: nowMs + noticeTtlMs,
    });
  });
  deps.outbox.wake();
}

/** Ends the session of a refresh token of any generation. What is not genuine is ignored. */
export async function logOutByRefreshToken(deps: Deps, refreshToken: string, context: RequestContext): Promise<void> {
  const parsed = parseRefreshToken(refreshToken);
  if (parsed === undefined) return;
  const found = await findSessionWithUser(deps.db, parsed.sessionId);
  if (found === undefined || !isGenuineRefreshToken(deps.keyring, parsed, found.session.salt)) return;
  await endSession(deps, found.session.id, found.user.id, context);
}

/** Ends the session of an access token. One whose session has ended already is as good as logged out. */
export async function logOutByAccessToken(deps: Deps, accessToken: string, context: RequestContext): Promise<void> {
  const claims = await deps.accessTokens.verify(accessToken);
  if (claims === undefined) throw new AppError('invalid_token');
  await endSession(deps, claims.sessionId, claims.userId, context);
}

async function endSession(deps: Deps, sessionId: string, userId: string, context: RequestContext): Promise<void> {
  await inTransaction(deps.db, async (tx) => {
    if (!(await deleteSession(tx, sessionId, userId))) return;
    const details = { session_id: sessionId };
    await recordEvent(tx, { type: 'session.ended', userId, details }, context, deps.clock.now());
  });
}

/** Ends every session of a user but the one to keep. Pass the transaction of the act that ends them. */
export async function endOtherSessions(tx: Db, userId: string, keepSessionId: string): Promise<number> {
  return deleteSessionsOfUser(tx, userId, keepSessionId);
}

/**
 * The guard: verifies the access token, then looks at the session and its user as they are now, so that
 * logout, disabling, deletion and changes of roles take effect on the next request.
 */
export async function authenticate(deps: Deps, accessToken: string): Promise<Principal> {
  const claims = await deps.accessTokens.verify(accessToken);
  if (claims === undefined) throw new AppError('invalid_token');
  const found = await findLiveSession(deps, claims.sessionId);
  if (found === undefined || found.user.id !== claims.userId) throw new AppError('invalid_token');
  return {
    userId: found.user.id,
    sessionId: found.session.id,
    authenticatedAtMs: found.session.authenticated_at,
    roles: found.roles,
    permissions: found.permissions,
  };
}

/** Refuses an act that needs the user to have authenticated recently (RFC 9470). */
export function requireRecentAuthentication(deps: Deps, principal: Principal): void {
  if (deps.clock.now() - principal.authenticatedAtMs <= recentAuthenticationSeconds * 1000) return;
  throw new AppError('insufficient_user_authentication', { maxAgeSeconds: recentAuthenticationSeconds });
}

async function findLiveSession(deps: Deps, sessionId: string): Promise<SessionWithUser | undefined> {
  const found = await findSessionWithUser(deps.db, sessionId);
  if (found === undefined || found.user.status !== 'active') return undefined;
  return isExpired(found.session, deps.clock.now()) ? undefined : found;
}

function isExpired(session: SessionRow, nowMs: number): boolean {
  return session.idle_expires_at <= nowMs || session.expires_at <= nowMs;
}

async function tokensFor(deps: Deps, { session, user, roles, permissions }: SessionWithUser): Promise<IssuedTokens> {
  const accessToken = await deps.accessTokens.sign({
    userId: user.id,
    sessionId: session.id,
    authenticatedAtSeconds: Math.floor(session.authenticated_at / 1000),
    roles,
    permissions,
  });
  return {
    accessToken,
    expiresInSeconds: deps.accessTokens.ttlSeconds,
    refreshToken: makeRefreshToken(deps.keyring, session.id, session.generation, session.salt),
    refreshTokenExpiresInSeconds: Math.round((session.idle_expires_at - deps.clock.now()) / 1000),
  };
}
