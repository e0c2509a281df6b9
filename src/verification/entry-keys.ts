import { sha256 } from '../crypto/secrets.ts';
import type { VerificationPurpose } from './purposes.ts';

// Where the codes, the tokens and the budget of an address are kept. The braces keep them in one slot of a cluster.

/** Names an address in keys and tokens: 132 bits of its hash. */
export function handleOf(email: string): string {
  return sha256(email).slice(0, 22);
}

/** Where the code for a purpose is kept. */
export function codeKey(email: string, purpose: VerificationPurpose): string {
  return `{${handleOf(email)}}:code:${purpose}`;
}

/** Where the verification token for a purpose is kept. */
export function tokenKey(handle: string, purpose: VerificationPurpose): string {
  return `{${handle}}:token:${purpose}`;
}

/** Where the mails to an address are counted. */
export function sendBudgetKey(email: string): string {
  return `{${handleOf(email)}}:sends`;
}
