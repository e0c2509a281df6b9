import { type Deadline, startDeadline } from './deadline.ts';
import { isLatchkeyError, isTemporary } from './latchkey-error.ts';
import { type StoredTokens, toStoredTokens } from './token-storage.ts';
import type { Transport } from './transport.ts';

/** How long one try may take before its reply counts as lost. */
const tryTimeoutMs = 5_000;

/**
 * The share of the service's grace in which tries follow each other. The service answers a token that it has just
 * replaced with the same successor for that long; a try that comes later would be taken for theft.
 */
const shareOfGrace = 2 / 3;
/** Signing out may be repeated at any time; after this long it is given up. */
const signOutWithinMs = 20_000;

/** The waits between tries double from the first to the longest. */
const firstWaitMs = 250;
const longestWaitMs = 4_000;

/** What a refresh is made with; the clock is the one that ages are counted by. */
export type RefreshDeps = { transport: Transport; now: () => number; reuseGraceSeconds: number };

/** Exchanges a refresh token; a lost reply is asked for again, and the service answers as it did the first time. */
export function exchangeTokens(deps: RefreshDeps, tokens: StoredTokens): Promise<StoredTokens> {
  const { transport, now, reuseGraceSeconds } = deps;
  return repeatUntilAnswered(reuseGraceSeconds * 1000 * shareOfGrace, async (deadline) => {
    const askedAtMs = now();
    const input = { body: { refresh_token: tokens.refresh_token } };
    const reply = await transport({ operation: 'POST /auth/refresh', input, deadline });
    return toStoredTokens(reply, askedAtMs, tokens.session);
  });
}

/** Ends the session of a refresh token of any generation. Ending it twice is ending it once. */
export function endSession({ transport }: Pick<RefreshDeps, 'transport'>, refreshToken: string): Promise<void> {
  return repeatUntilAnswered(signOutWithinMs, async (deadline) => {
    await transport({ operation: 'POST /auth/logout', input: { body: { refresh_token: refreshToken } }, deadline });
  });
}

/** Repeats what may be sent twice, after a lost reply and a failure that will pass, for as long as that is safe. */
async function repeatUntilAnswered<Result>(
  triesWithinMs: number,
  work: (deadline: Deadline) => Promise<Result>,
): Promise<Result> {
  const startedAtMs = performance.now();
  for (let waitMs = firstWaitMs; ; waitMs = Math.min(waitMs * 2, longestWaitMs)) {
    try {
      return await work(startDeadline({}, tryTimeoutMs));
    } catch (error) {
      const pauseMs = pauseAfter(error, waitMs);
      const leftMs = triesWithinMs - (performance.now() - startedAtMs);
      if (!isTemporary(error) || pauseMs + tryTimeoutMs > leftMs) throw error;
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }
}

function pauseAfter(error: unknown, waitMs: number): number {
  const retryAfterSeconds = isLatchkeyError(error) ? (error.retryAfterSeconds ?? 0) : 0;
  // Spread, so that the tabs and users whom one failure stopped do not all come back at once.
  return Math.max(retryAfterSeconds * 1000, waitMs * (0.5 + Math.random()));
}
