import type { TokenResponse } from './api-types.ts';
import { type Deadline, waitUntil } from './deadline.ts';
import { isLatchkeyError, LatchkeyError } from './latchkey-error.ts';
import { exchangeTokens, type RefreshDeps } from './refresh.ts';
import type { SignedOutReason } from './tabs.ts';
import type { TokenKeeper } from './token-keeper.ts';
import { newSessionName, remainingMs, type StoredTokens, toStoredTokens } from './token-storage.ts';

/** A token that lives for less than this is refreshed in the background by the next call, which does not wait for it. */
const earlyMs = 60_000;
/** What has to get to a service and be judged there should live a little longer than that takes. */
const tightMs = 10_000;

/** How often, and after what pauses, a tab looks again for what the tab before it has stored. */
const settlingLooks = 5;
const settlingPauseMs = 20;

/** The session of this page, and of the tabs that share its storage: the tokens that calls are made with. */
export type SessionTokens = {
  /** Tokens of which the access token still lives for a while. */
  obtain(deadline: Deadline): Promise<StoredTokens>;
  /** The tokens that follow those of which the service did not take the access token. */
  replace(refused: StoredTokens, deadline: Deadline): Promise<StoredTokens>;
  /** Begins a session with the answer to a login. */
  begin(reply: TokenResponse, askedAtMs: number): Promise<void>;
};

/** Renews the tokens once for all calls and all tabs, and ends the session where the service says that it is over. */
export function createSession(deps: RefreshDeps & { keeper: TokenKeeper }): SessionTokens {
  const { keeper, now } = deps;
  let refreshing: Promise<StoredTokens> | undefined;

  /** What another tab has just stored may take a browser a moment to show here. */
  async function getSettled(isDone: (tokens: StoredTokens) => boolean, hasWaited: boolean): Promise<StoredTokens> {
    for (let looks = hasWaited ? settlingLooks : 1; ; looks -= 1) {
      const tokens = await keeper.get();
      if (looks <= 1 || isDone(tokens)) return tokens;
      await new Promise((resolve) => setTimeout(resolve, settlingPauseMs));
    }
  }

  /** One refresh for all who need it here; `isDone` says whether another tab has been quicker. */
  function refresh(isDone: (tokens: StoredTokens) => boolean): Promise<StoredTokens> {
    refreshing ??= keeper
      .alone(async (hasWaited) => {
        const tokens = await getSettled(isDone, hasWaited);
        return isDone(tokens) ? tokens : await exchange(tokens);
      })
      .finally(() => {
        refreshing = undefined;
      });
    return refreshing;
  }

  async function exchange(tokens: StoredTokens): Promise<StoredTokens> {
    try {
      const next = await exchangeTokens(deps, tokens);
      return (await findOther(tokens)) ?? (await keeper.keep(next));
    } catch (error) {
      if (!isLatchkeyError(error, 'invalid_refresh_token', 'refresh_token_reused')) throw error;
      const other = await findOther(tokens);
      if (other !== undefined) return other;
      await keeper.end(error.code as SignedOutReason);
      throw error;
    }
  }

  /**
   * What has taken the place of the tokens while the service was asked. Whoever signed out meanwhile, or in as somebody
   * else, must not find this session in its place. A storage that cannot say so is taken to hold what it held.
   */
  async function findOther(tokens: StoredTokens): Promise<StoredTokens | undefined> {
    const current = await keeper.get().catch((error: unknown) => {
      if (isLatchkeyError(error, 'storage_failed')) return tokens;
      throw error;
    });
    return current.refresh_token === tokens.refresh_token ? undefined : current;
  }

  return {
    async obtain(deadline) {
      const tokens = await waitUntil(keeper.get(), deadline);
      const isFresh = (candidate: StoredTokens) => remainingMs(candidate, now()) > shareOf(candidate, earlyMs);
      if (isFresh(tokens)) return tokens;
      const renewed = refresh(isFresh);
      if (remainingMs(tokens, now()) > shareOf(tokens, tightMs)) {
        // It will do for this call, whatever becomes of the refresh; the next call tries again.
        renewed.catch(() => {});
        return tokens;
      }
      return requireSame(tokens, await waitUntil(renewed, deadline));
    },
    async replace(refused, deadline) {
      const isOther = (tokens: StoredTokens) => tokens.access_token !== refused.access_token;
      const renewed = await waitUntil(refresh(isOther), deadline);
      // It may have joined a refresh that found, for another call, that there was nothing to do.
      if (isOther(renewed)) return requireSame(refused, renewed);
      return requireSame(refused, await waitUntil(refresh(isOther), deadline));
    },
    async begin(reply, askedAtMs) {
      const { session } = await keeper.keep(toStoredTokens(reply, askedAtMs, newSessionName()));
      keeper.announce(session);
    },
  };
}

/** A call belongs to the session in which it began. With the token of another it would be done in another's name. */
function requireSame(begun: StoredTokens, renewed: StoredTokens): StoredTokens {
  if (renewed.session === begun.session) return renewed;
  throw new LatchkeyError('signed_out', 'the session in which the call began is over');
}

/** Where tokens are made to live shortly, a minute could be all of their life: never more than a tenth is given away. */
function shareOf({ expires_in }: StoredTokens, mostMs: number): number {
  return Math.min(mostMs, expires_in * 100);
}
