import { convertFirebaseHash, type FirebaseParameters, isFirebaseExport } from './firebase-hash.ts';
import { type ForeignHashFault, readForeignHash } from './foreign-spellings.ts';
import { type Keyring, type SecretRoot, seal, unseal } from './secrets.ts';

/** A stored hash taken apart. Without a root it is of the password itself, as another system made it. */
export type ParsedHash = { root: SecretRoot | undefined; hash: string };

/** Why a hash from elsewhere is not taken. */
export type AdoptionFault = ForeignHashFault | 'other_secret' | 'needs_firebase_parameters';

/** Begins a hash of our own: `lk1:<fingerprint of the secret>:<hash in its usual encoding>`. */
export const ownTag = 'lk1';
const ownHashPattern = /^lk1:([0-9a-f]{16}):(\$(?:2b|argon2id)\$.+)$/;
// Begins a hash from elsewhere, sealed: a stolen table alone lets nobody guess at the passwords of those who have not
// logged in yet, as it does not at those of the others.
const foreignTag = 'foreign:';
const sealContext = 'users.password_hash';

/** Takes a stored hash apart, or returns undefined when its secret is not configured or its format not known. */
export function parseStoredHash(keyring: Keyring, stored: string): ParsedHash | undefined {
  const own = ownHashPattern.exec(stored);
  const hash = own?.[2] ?? (stored.startsWith(foreignTag) ? openForeign(keyring, stored) : stored);
  if (hash === undefined || typeof readForeignHash(hash) === 'string') return undefined;
  if (own === null) return { root: undefined, hash };
  const root = keyring.all.find((candidate) => candidate.fingerprint === own[1]);
  return root === undefined ? undefined : { root, hash };
}

function openForeign(keyring: Keyring, stored: string): string | undefined {
  try {
    return unseal(keyring, stored.slice(foreignTag.length), sealContext);
  } catch {
    // Damaged, or sealed under a secret that is not configured any more: unreadable either way.
    return undefined;
  }
}

/** Says whether a stored hash was brought from elsewhere and its owner has not logged in with it yet. */
export function isForeignStored(stored: string): boolean {
  return !ownHashPattern.test(stored);
}

/**
 * Makes of a hash from elsewhere what is stored, or says why a login could never check it. What this installation, or
 * another with the same SECRET_KEY, has stored is taken as it is.
 */
export function adoptHash(
  keyring: Keyring,
  text: string,
  firebase: FirebaseParameters | undefined,
): { stored: string } | { fault: AdoptionFault } {
  if (text.startsWith(`${ownTag}:`) || text.startsWith(foreignTag)) {
    return parseStoredHash(keyring, text) === undefined ? { fault: 'other_secret' } : { stored: text };
  }
  if (isFirebaseExport(text) && firebase === undefined) return { fault: 'needs_firebase_parameters' };
  const hash = isFirebaseExport(text) && firebase !== undefined ? convertFirebaseHash(text, firebase) : text;
  const read = hash === undefined ? 'unknown_format' : readForeignHash(hash);
  if (hash === undefined || typeof read === 'string')
    return { fault: typeof read === 'string' ? read : 'unknown_format' };
  return { stored: `${foreignTag}${seal(keyring, hash, sealContext)}` };
}

/** Says whether two stored hashes are of the same hash: sealed, it is different text each time. */
export function isSameStoredHash(keyring: Keyring, one: string, other: string): boolean {
  const [left, right] = [parseStoredHash(keyring, one), parseStoredHash(keyring, other)];
  return one === other || (left !== undefined && left.root === right?.root && left.hash === right?.hash);
}
