import { seal, unseal } from '../crypto/secrets.ts';
import type { Deps } from '../deps.ts';
import type { Principal } from './principal.ts';

/** What the guard may take from the cache instead of the database: the principal, and until when its session lives. */
type CachedSession = { principal: Principal; liveUntilMs: number };

/** Reads a live session from the cache. Whatever is not there, has expired or was not made here is a miss. */
export async function readCachedSession(
  deps: Deps,
  { userId, sessionId }: { userId: string; sessionId: string },
): Promise<Principal | undefined> {
  if (deps.sessionCache === undefined) return undefined;
  const sealed = await deps.sessionCache.read(userId, sessionId);
  const principal = sealed === undefined ? undefined : openCachedSession(deps, { userId, sessionId, sealed });
  deps.metrics.countSessionCacheRead(principal === undefined ? 'miss' : 'hit');
  return principal;
}

function openCachedSession(
  deps: Deps,
  { userId, sessionId, sealed }: { userId: string; sessionId: string; sealed: string },
): Principal | undefined {
  try {
    const cached = JSON.parse(unseal(deps.keyring, sealed, sealContext(userId, sessionId))) as CachedSession;
    return cached.liveUntilMs > deps.clock.now() ? cached.principal : undefined;
  } catch (error) {
    deps.log.warn({ err: error, user_id: userId }, 'an entry of the session cache was not made by this service');
    return undefined;
  }
}

/**
 * Keeps a session that was read from the database at this moment of `performance.now()`. Sealed, because whoever can
 * write to Redis could else grant themselves roles.
 */
export async function cacheSession(deps: Deps, session: CachedSession, readAtMs: number): Promise<void> {
  if (deps.sessionCache === undefined) return;
  const { userId, sessionId } = session.principal;
  const sealed = seal(deps.keyring, JSON.stringify(session), sealContext(userId, sessionId));
  await deps.sessionCache.fill(userId, sessionId, sealed, readAtMs);
}

/**
 * Takes a user's sessions out of the cache on every instance. Call it in the transaction that ends or changes one,
 * before the commit: from then on every request asks the database, so that nothing that was read before can be
 * served after. Without Redis the act goes on, for logging out must not depend on it; an entry lives for seconds.
 */
export async function blockCachedSessions(deps: Deps, userId: string): Promise<void> {
  try {
    await deps.sessionCache?.block(userId);
  } catch (error) {
    deps.log.warn({ err: error, user_id: userId }, 'a revocation could not be told to Redis; its entries expire soon');
  }
}

/**
 * The same for everybody, as a change of a role needs it: it is of many users at once, and those who have the role when
 * it commits are not known before. While it lasts, every request asks the database.
 */
export async function blockAllCachedSessions(deps: Deps): Promise<void> {
  try {
    await deps.sessionCache?.blockAll();
  } catch (error) {
    deps.log.warn({ err: error }, 'a change of a role could not be told to Redis; its entries expire soon');
  }
}

function sealContext(userId: string, sessionId: string): string {
  return `session-cache/${userId}/${sessionId}`;
}
