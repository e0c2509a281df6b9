import { recordEvent } from '../audit/flow.ts';
import { newId } from '../crypto/ids.ts';
import { isGenuineRefreshToken, makeRefreshToken, parseRefreshToken } from '../crypto/refresh-token.ts';
import { randomToken } from '../crypto/secrets.ts';
import { inTransaction } from '../db/database.ts';
import type { Db, SessionRow } from '../db/schema.ts';
import type { Deps } from '../deps.ts';
import { readDevice } from '../devices/label.ts';
import { AppError } from '../errors.ts';
import { cutPage, type Page, type PageRequest } from '../paging.ts';
import type { RequestContext } from '../request-context.ts';
import { blockCachedSessions } from './cache.ts';
import type { Principal } from './principal.ts';
import {
  deleteSession,
  deleteSessionsOfUser,
  deleteSessionsOverCap,
  findSessionWithUser,
  insertSession,
  listLiveSessions,
  type SessionWithUser,
  updateAuthenticatedAt,
} from './store.ts';

/** A session as its user may see it: nothing of its tokens. */
export type Session = {
  id: string;
  device: string | null;
  clientAddress: string;
  userAgent: string | null;
  createdAtMs: number;
  lastUsedAtMs: number;
  authenticatedAtMs: number;
  expiresAtMs: number;
};

/** The tokens of RFC 6749 section 5.1, durations in seconds. */
export type IssuedTokens = {
  accessToken: string;
  expiresInSeconds: number;
  refreshToken: string;
  refreshTokenExpiresInSeconds: number;
};

/**
 * Opens a session for a user who has just proved who they are. Pass the transaction of the login: what the
 * tokens are made from is read in it, so that nothing that follows the commit can fail the login.
 */
export async function openSession(
  deps: Deps,
  tx: Db,
  userId: string,
  context: RequestContext,
): Promise<SessionWithUser> {
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
    device_label: readDevice(context.userAgent).label,
  });
  const ended = await deleteSessionsOverCap(tx, userId, { newestId: id, cap: SESSIONS_PER_USER_MAX, nowMs });
  if (ended > 0) {
    await blockCachedSessions(deps, userId);
    await recordEvent(tx, { type: 'session.oldest_ended', userId, details: { ended } }, context, nowMs);
  }
  const opened = await findSessionWithUser(tx, id);
  if (opened === undefined) throw new Error('a session that was just opened is not there');
  return opened;
}

/** Ends the session of a refresh token of any generation. What is not genuine is ignored. */
export async function logOutByRefreshToken(deps: Deps, refreshToken: string, context: RequestContext): Promise<void> {
  const parsed = parseRefreshToken(refreshToken);
  if (parsed === undefined) return;
  const found = await findSessionWithUser(deps.db, parsed.sessionId);
  if (found === undefined || !isGenuineRefreshToken(deps.keyring, parsed, found.session.salt)) return;
  await endSession(deps, { sessionId: found.session.id, userId: found.user.id, by: 'logout' }, context);
}

/** Ends the session of an access token. One whose session has ended already is as good as logged out. */
export async function logOutByAccessToken(deps: Deps, accessToken: string, context: RequestContext): Promise<void> {
  const claims = await deps.accessTokens.verify(accessToken);
  if (claims === undefined) throw new AppError('invalid_token');
  await endSession(deps, { sessionId: claims.sessionId, userId: claims.userId, by: 'logout' }, context);
}

async function endSession(
  deps: Deps,
  { sessionId, userId, by }: { sessionId: string; userId: string; by: 'logout' | 'owner' },
  context: RequestContext,
): Promise<boolean> {
  return inTransaction(deps.db, async (tx) => {
    if (!(await deleteSession(tx, sessionId, userId))) return false;
    await blockCachedSessions(deps, userId);
    const details = { session_id: sessionId, by };
    await recordEvent(tx, { type: 'session.ended', userId, details }, context, deps.clock.now());
    return true;
  });
}

/** Ends every session of a user, but for the one to keep. Pass the transaction of the act that ends them. */
export async function endSessionsOfUser(deps: Deps, tx: Db, userId: string, keepSessionId?: string): Promise<number> {
  const ended = await deleteSessionsOfUser(tx, userId, keepSessionId);
  await blockCachedSessions(deps, userId);
  return ended;
}

/** Lists a user's live sessions, the newest first. */
export async function listSessions(deps: Deps, userId: string, page: PageRequest): Promise<Page<Session>> {
  const rows = await listLiveSessions(deps.db, userId, page, deps.clock.now());
  return cutPage(rows.map(toSession), page.limit, ({ createdAtMs, id }) => ({ atMs: createdAtMs, id }));
}

/** Ends one of the user's own sessions. One that is not theirs is not found, whoever's it is. */
export async function endOwnSession(
  deps: Deps,
  principal: Principal,
  sessionId: string,
  context: RequestContext,
): Promise<void> {
  const ended = await endSession(deps, { sessionId, userId: principal.userId, by: 'owner' }, context);
  if (!ended) throw new AppError('not_found');
}

/** Ends all of the user's sessions but the one that asks. */
export async function endOtherSessions(deps: Deps, principal: Principal, context: RequestContext): Promise<void> {
  await inTransaction(deps.db, async (tx) => {
    const ended = await endSessionsOfUser(deps, tx, principal.userId, principal.sessionId);
    if (ended === 0) return;
    const event = { type: 'session.others_ended', userId: principal.userId, details: { ended } } as const;
    await recordEvent(tx, event, context, deps.clock.now());
  });
}

/** Notes that the user has just proved again who they are. Throws when the session has ended meanwhile. */
export async function renewAuthentication(deps: Deps, tx: Db, principal: Principal): Promise<void> {
  const renewed = await updateAuthenticatedAt(tx, principal.sessionId, principal.userId, deps.clock.now());
  if (!renewed) throw new AppError('invalid_token');
  await blockCachedSessions(deps, principal.userId);
}

/** Reads a session that has not ended or expired and whose user is active. */
export async function findLiveSession(deps: Deps, sessionId: string): Promise<SessionWithUser | undefined> {
  const found = await findSessionWithUser(deps.db, sessionId);
  if (found === undefined || found.user.status !== 'active') return undefined;
  return isExpired(found.session, deps.clock.now()) ? undefined : found;
}

function isExpired(session: SessionRow, nowMs: number): boolean {
  return session.idle_expires_at <= nowMs || session.expires_at <= nowMs;
}

/** Makes the tokens of a session as it was read; the same generation gives the same refresh token. */
export async function issueTokens(
  deps: Deps,
  { session, user, roles, permissions }: SessionWithUser,
): Promise<IssuedTokens> {
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

function toSession(row: SessionRow): Session {
  return {
    id: row.id,
    device: row.device_label,
    clientAddress: row.client_address,
    userAgent: row.user_agent,
    createdAtMs: row.created_at,
    lastUsedAtMs: row.rotated_at,
    authenticatedAtMs: row.authenticated_at,
    expiresAtMs: row.idle_expires_at,
  };
}
