import { randomBytes } from 'node:crypto';
import { argon2Parameters, type HashScheme } from './hash-scheme.ts';

const standardAlphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const bcryptAlphabet = './ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

/**
 * Makes a hash that a library checks with all the work of a real one and that no password matches: its salt and its
 * digest are random. It takes no work to make, so that no start and no first login waits for one.
 */
export function makeUnmatchedHash(scheme: HashScheme): string {
  if (scheme.name === 'bcrypt') {
    const cost = String(scheme.cost).padStart(2, '0');
    // 128 bits of salt and 184 of digest, as bcrypt keeps them.
    return `$2b$${cost}$${encodeForBcrypt(randomBytes(16))}${encodeForBcrypt(randomBytes(23))}`;
  }
  const { memoryCost, timeCost, parallelism } = argon2Parameters;
  const parts = [randomBytes(16), randomBytes(32)].map(encodeUnpadded);
  return `$argon2id$v=19$m=${memoryCost},t=${timeCost},p=${parallelism}$${parts.join('$')}`;
}

/** The same as base64, but for the alphabet. */
function encodeForBcrypt(bytes: Buffer): string {
  return encodeUnpadded(bytes).replace(/./g, (symbol) => bcryptAlphabet.charAt(standardAlphabet.indexOf(symbol)));
}

function encodeUnpadded(bytes: Buffer): string {
  return bytes.toString('base64').replace(/=+$/, '');
}
