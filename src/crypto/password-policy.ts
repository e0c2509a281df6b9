import { createRequire } from 'node:module';

/** The longest password in characters; a limit before the hash, so that length is no attack on the processor. */
export const passwordMaxLength = 256;

const require = createRequire(import.meta.url);
let commonPasswords: ReadonlySet<string> | undefined;
// What must remain of a password after the address is taken out: some letters, or more digits than a year has.
const minRemainingLetters = 4;
const minRemainingDigits = 6;
const minAddressPart = 3;

/**
 * Says in one sentence why a password is not acceptable, or returns undefined. Length is counted in
 * characters after NFKC; there are no composition rules (NIST SP 800-63B-4 section 3.1.1.2).
 */
export function findPasswordFault(password: string, email: string, minLength: number): string | undefined {
  const normalized = password.normalize('NFKC');
  // The shorter of both forms: one ligature can stand for many characters, or many marks for one.
  const length = Math.min([...password].length, [...normalized].length);
  if (length < minLength) return `must be at least ${minLength} characters long`;
  if ([...normalized].length > passwordMaxLength) return `must be at most ${passwordMaxLength} characters long`;
  const folded = normalized.toLowerCase();
  commonPasswords ??= loadCommonPasswords();
  if (commonPasswords.has(folded) || isOneCharacterRepeated(folded)) return 'is one of the most common passwords';
  if (isBuiltFrom(folded, email)) return 'must not be built from your e-mail address';
  return undefined;
}

/**
 * Reads the list with the first password that is chosen rather than with the start: it takes 20 ms and 10 MB. Not by an
 * import, which would have to be waited for: whoever forgot that would let every password through.
 */
function loadCommonPasswords(): ReadonlySet<string> {
  const { dictionary } = require('@zxcvbn-ts/language-common') as typeof import('@zxcvbn-ts/language-common');
  return new Set(dictionary['passwords-common'] as readonly string[]);
}

function isOneCharacterRepeated(password: string): boolean {
  return new Set(password).size === 1;
}

function isBuiltFrom(password: string, email: string): boolean {
  const at = email.lastIndexOf('@');
  const parts = [email, email.slice(0, at), email.slice(at + 1), ...email.split(/[^a-z0-9]+/)]
    .filter((part) => part.length >= minAddressPart)
    .sort((a, b) => b.length - a.length);
  const remainder = parts.reduce((rest, part) => rest.replaceAll(part, ''), password);
  const letters = remainder.match(/\p{L}/gu)?.length ?? 0;
  const digits = remainder.match(/\p{N}/gu)?.length ?? 0;
  return remainder !== password && letters < minRemainingLetters && digits < minRemainingDigits;
}
