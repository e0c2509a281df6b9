import { clientNetwork } from '../client-network.ts';
import { hmacSha256, type SecretRoot } from '../crypto/secrets.ts';
import type { Deps } from '../deps.ts';
import { recogniseDevice } from '../devices/flow.ts';
import type { ThrottleRule } from '../ephemeral/throttle.ts';
import type { RequestContext } from '../request-context.ts';

/** Whose password is tried, and in which session where it is asked for in one. */
export type Target = {
  /** In its canonical spelling. */
  email: string;
  /** Undefined for an address without an account. */
  owner: { id: string; proofs_valid_from: number; password_hash: string | null } | undefined;
  sessionId?: string;
};

/** From where a password is tried: in a live session, from a device that its owner is known on, or by anybody. */
type LaneKind = 'session' | 'device' | 'public';

/** What an attempt is counted with. Attempts in one lane hold up nobody in another. */
export type Lane = {
  kind: LaneKind;
  digest: string;
  /** The same lane under older secrets. */
  olderDigests: readonly string[];
  userId: string | null;
  throttles: readonly { key: string; rule: ThrottleRule }[];
};

const waits = { firstWaitMs: 1_000, longestWaitMs: 15 * 60 * 1000, memoryMs: 24 * 60 * 60 * 1000 };

/** One client at one address, where anybody can try. */
const strangerRule: ThrottleRule = { freeAttempts: 5, ...waits };
/**
 * One client in a session or on a known device: as many as the limit of logins lets through in a minute, so that
 * parallel logins with the right password never meet it.
 */
const ownerRule: ThrottleRule = { freeAttempts: 20, ...waits };
/** All strangers together at one address. */
const accountRule: ThrottleRule = { freeAttempts: 20, ...waits };

/**
 * Chooses the one lane of an attempt before anything is compared. The names of lanes hold since when the account takes
 * proofs, so that a reset, a change of the password or of the address begins new lanes everywhere at once, and a
 * new account inherits nothing of the address's former one.
 */
export async function chooseLane(deps: Deps, target: Target, context: RequestContext): Promise<Lane> {
  const { email, owner, sessionId } = target;
  const epoch = `${owner?.id ?? ''}:${owner?.proofs_valid_from ?? 0}`;
  if (sessionId !== undefined) return nameLane(deps, 'session', [sessionId, epoch], target, context);
  // Asked for an unknown address too, so that the work is the same.
  const device = await recogniseDevice(deps, owner?.id ?? '', context);
  if (device !== undefined) return nameLane(deps, 'device', [email, epoch, device], target, context);
  return nameLane(deps, 'public', [email, epoch], target, context);
}

function nameLane(
  { keyring }: Deps,
  kind: LaneKind,
  parts: readonly string[],
  target: Target,
  context: RequestContext,
): Lane {
  const { current, all } = keyring;
  const digestUnder = (root: SecretRoot) => hmacSha256(root.key('guessing'), [kind, ...parts]);
  const digest = digestUnder(current);
  const keyOf = (...rest: string[]) => hmacSha256(current.key('guessing'), ['throttle', digest, ...rest]);
  const client = {
    key: keyOf(clientNetwork(context.clientAddress)),
    rule: kind === 'public' ? strangerRule : ownerRule,
  };
  return {
    kind,
    digest,
    olderDigests: all.filter((root) => root !== current).map(digestUnder),
    userId: target.owner?.id ?? null,
    throttles: kind === 'public' ? [client, { key: keyOf(), rule: accountRule }] : [client],
  };
}
