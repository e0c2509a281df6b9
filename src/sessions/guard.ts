import type { Deps } from '../deps.ts';
import { AppError } from '../errors.ts';
import { cacheSession, readCachedSession } from './cache.ts';
import { findLiveSession } from './flow.ts';
import type { Principal } from './principal.ts';

/** How recent an authentication must be for what could take an account away from its owner. */
const recentAuthenticationSeconds = 300;

/**
 * The guard: verifies the access token, then looks at the session and its user as they are now, so that
 * logout, disabling, deletion and changes of roles take effect on the next request.
 */
export async function authenticate(deps: Deps, accessToken: string): Promise<Principal> {
  const claims = await deps.accessTokens.verify(accessToken);
  if (claims === undefined) throw new AppError('invalid_token');
  return (await readCachedSession(deps, claims)) ?? readSession(deps, claims);
}

async function readSession(
  deps: Deps,
  { userId, sessionId }: { userId: string; sessionId: string },
): Promise<Principal> {
  // Taken before the read, because what another instance ends from now on is not in it.
  const readAtMs = performance.now();
  const found = await findLiveSession(deps, sessionId);
  if (found === undefined || found.user.id !== userId) throw new AppError('invalid_token');
  const { session, roles, permissions } = found;
  const principal = { userId, sessionId, authenticatedAtMs: session.authenticated_at, roles, permissions };
  cacheSession(deps, { principal, liveUntilMs: session.idle_expires_at }, readAtMs);
  return principal;
}

/** Refuses an act that needs the user to have authenticated recently (RFC 9470). */
export function requireRecentAuthentication(deps: Deps, principal: Principal): void {
  if (deps.clock.now() - principal.authenticatedAtMs <= recentAuthenticationSeconds * 1000) return;
  throw new AppError('insufficient_user_authentication', { maxAgeSeconds: recentAuthenticationSeconds });
}
