import { randomInt } from 'node:crypto';

// Crockford's base32: no I, L, O or U, so that a code read aloud or from a small screen has one reading.
const alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const codeLength = 6;

/** Makes six characters, each uniform over 32 symbols (30 bits), from the operating system's generator. */
export function generateCode(): string {
  return Array.from({ length: codeLength }, () => alphabet.charAt(randomInt(alphabet.length))).join('');
}

/**
 * Reads a code as a person may type it: any case, spaces and hyphens anywhere, O for 0, I or L for 1.
 * Returns undefined for what cannot be a code.
 */
export function normalizeCode(typed: string): string | undefined {
  const code = typed
    .replace(/[\s-]/g, '')
    .replace(/[a-z]/g, (letter) => letter.toUpperCase())
    .replaceAll('O', '0')
    .replace(/[IL]/g, '1');
  const wellFormed = code.length === codeLength && [...code].every((symbol) => alphabet.includes(symbol));
  return wellFormed ? code : undefined;
}
