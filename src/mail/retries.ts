import { DeliveryError } from './transport.ts';

/** What happens to a mail that was not accepted. */
type Decision = { isGivenUp: true; error: DeliveryError } | { isGivenUp: false; delayMs: number };

const firstRetryMs = 2_000;
const maxRetryMs = 300_000;
// A try at once after a refusal for good would be refused again; servers that look up a user in vain for a while
// answer differently some minutes later.
const refusalRetryMs = 300_000;
const maxRefusedTries = 3;
const maxPolicyRetryMs = 3_600_000;
// A share of the pause that is added at random, so that what failed together is not tried together.
const spread = 0.25;

/**
 * Decides about a mail that failed by itself at its n-th try: later again, in pauses that double, until it expires. A
 * recipient who is refused for good is given up at the third try, and what the operator can mend never.
 */
export function decideAfterFailure(error: unknown, attempts: number, random: () => number): Decision {
  const fault = error instanceof DeliveryError ? error.fault : 'mail';
  if (error instanceof DeliveryError && fault === 'recipient' && attempts >= maxRefusedTries) {
    return { isGivenUp: true, error };
  }
  return { isGivenUp: false, delayMs: Math.round(findPauseMs(fault, attempts) * (1 + spread * random())) };
}

function findPauseMs(fault: DeliveryError['fault'], attempts: number): number {
  if (fault === 'recipient') return refusalRetryMs;
  if (fault === 'policy') return Math.min(refusalRetryMs * 2 ** (attempts - 1), maxPolicyRetryMs);
  return Math.min(firstRetryMs * 2 ** (attempts - 1), maxRetryMs);
}
