import { pbkdf2Sync, scryptSync, timingSafeEqual } from 'node:crypto';

// `$scrypt$ln=16,r=8,p=1$<salt>$<checksum>`, as passlib and the PHC string format write it.
const scryptPattern = /^\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/;
// `$pbkdf2-sha256$29000$<salt>$<checksum>`, as passlib writes it, with "." for "+".
const pbkdf2Pattern = /^\$pbkdf2-(sha256|sha512)\$(\d{1,8})\$([A-Za-z0-9./]+)\$([A-Za-z0-9./]+)$/;

// A stored hash decides what its check costs, so what a hostile import could ask for is bounded.
const scryptMaxMemoryBytes = 256 * 1024 * 1024;
const pbkdf2MaxRounds = 5_000_000;

/** Says whether a stored hash is one that `verifyForeignHash` reads. */
export function isForeignHash(encoded: string): boolean {
  return scryptPattern.test(encoded) || pbkdf2Pattern.test(encoded);
}

/** Checks a password against a scrypt or PBKDF2 hash that another system made. Blocks: call it in a worker. */
export function verifyForeignHash(password: string, encoded: string): boolean {
  const scrypt = scryptPattern.exec(encoded);
  if (scrypt !== null) return verifyScrypt(password, scrypt);
  const pbkdf2 = pbkdf2Pattern.exec(encoded);
  if (pbkdf2 !== null) return verifyPbkdf2(password, pbkdf2);
  throw new Error('a stored password hash has an unknown format');
}

function verifyScrypt(password: string, [, ln, r, p, salt = '', checksum = '']: RegExpExecArray): boolean {
  const expected = Buffer.from(checksum, 'base64');
  const cost = { N: 2 ** Number(ln), r: Number(r), p: Number(p), maxmem: scryptMaxMemoryBytes };
  return timingSafeEqual(scryptSync(password, Buffer.from(salt, 'base64'), expected.length, cost), expected);
}

function verifyPbkdf2(password: string, [, digest = '', rounds, salt = '', checksum = '']: RegExpExecArray): boolean {
  if (Number(rounds) > pbkdf2MaxRounds) throw new Error(`a PBKDF2 hash asks for more than ${pbkdf2MaxRounds} rounds`);
  const expected = decodeAdapted(checksum);
  const actual = pbkdf2Sync(password, decodeAdapted(salt), Number(rounds), expected.length, digest);
  return timingSafeEqual(actual, expected);
}

function decodeAdapted(text: string): Buffer {
  return Buffer.from(text.replaceAll('.', '+'), 'base64');
}
