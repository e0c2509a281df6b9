import { listEventsOfUser, recordEvent } from '../audit/flow.ts';
import { inTransaction } from '../db/database.ts';
import type { Deps } from '../deps.ts';
import { listKnownDevices } from '../devices/flow.ts';
import { AppError } from '../errors.ts';
import type { RequestContext } from '../request-context.ts';
import { listSessions, type Session } from '../sessions/flow.ts';
import { requireRecentAuthentication } from '../sessions/guard.ts';
import type { Principal } from '../sessions/principal.ts';
import { type Account, getAccount } from './flow.ts';
import { findPendingEmailChange, lockUser } from './store.ts';

/** Everything that is held about a user. What is only a digest of a secret is named, not shown. */
export type AccountExport = {
  exportedAtMs: number;
  account: Account;
  pendingEmailChange: string | null;
  sessions: Session[];
  knownDevices: { firstSeenAtMs: number; lastSeenAtMs: number }[];
  events: Awaited<ReturnType<typeof listEventsOfUser>>;
};

// More sessions than the cap allows, and as many events as can be written without holding others up.
const maxSessions = 1_000;
const maxEvents = 1_000;

/** Collects everything held about the user. Needs a recent authentication, and is itself recorded. */
export async function exportAccount(deps: Deps, principal: Principal, context: RequestContext): Promise<AccountExport> {
  requireRecentAuthentication(deps, principal);
  const { userId } = principal;
  const nowMs = deps.clock.now();
  const account = await inTransaction(deps.db, async (tx) => {
    // In one transaction with the look that the user is still there: nothing may be written about one who is forgotten.
    if (!(await lockUser(tx, userId))) throw new AppError('invalid_token');
    await recordEvent(tx, { type: 'data.exported', userId, details: {} }, context, nowMs);
    return getAccount(tx, userId);
  });
  const pending = await findPendingEmailChange(deps.db, userId, nowMs);
  const { items: sessions } = await listSessions(deps, userId, { limit: maxSessions, after: undefined });
  return {
    exportedAtMs: nowMs,
    account,
    pendingEmailChange: pending?.email ?? null,
    sessions,
    knownDevices: await listKnownDevices(deps.db, userId),
    events: await listEventsOfUser(deps.db, userId, maxEvents),
  };
}
