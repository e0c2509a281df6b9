import { pbkdf2Sync, scryptSync, timingSafeEqual } from 'node:crypto';

// `$scrypt$ln=16,r=8,p=1$<salt>$<checksum>`, as passlib and the PHC string format write it, and
// `$pbkdf2-sha256$29000$<salt>$<checksum>`, as passlib writes it, with "." for "+". A checksum has 16 to 64 bytes: an
// empty one would equal the checksum of every password.
const scryptPattern =
  /^\$scrypt\$ln=([1-9]|1\d),r=([1-9]|[12]\d|3[0-2]),p=([1-9]|1[0-6])\$([A-Za-z0-9+/]{2,128})\$([A-Za-z0-9+/]{22,86})$/;
const pbkdf2Pattern = /^\$pbkdf2-(sha256|sha512)\$([1-9]\d{0,6})\$([A-Za-z0-9./]{2,128})\$([A-Za-z0-9./]{22,86})$/;

// A stored hash decides what its check costs, so what a hostile import could ask for is bounded: N times r times p
// blocks of 128 bytes (256 MiB with p = 1), and rounds (about two seconds).
const scryptMaxWork = 2 ** 21;
const scryptMaxMemoryBytes = 260 * 1024 * 1024;
const pbkdf2MaxRounds = 5_000_000;
const minChecksumBytes = 16;

/** Says whether a stored hash is one that `verifyForeignHash` reads, at a cost that we are ready to pay. */
export function isForeignHash(encoded: string): boolean {
  const [, ln, r, p] = scryptPattern.exec(encoded) ?? [];
  if (ln !== undefined) return 2 ** Number(ln) * Number(r) * Number(p) <= scryptMaxWork;
  const rounds = pbkdf2Pattern.exec(encoded)?.[2];
  return rounds !== undefined && Number(rounds) <= pbkdf2MaxRounds;
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
  return matches(scryptSync(password, Buffer.from(salt, 'base64'), expected.length, cost), expected);
}

function verifyPbkdf2(password: string, [, digest = '', rounds, salt = '', checksum = '']: RegExpExecArray): boolean {
  const expected = decodeAdapted(checksum);
  const actual = pbkdf2Sync(password, decodeAdapted(salt), Number(rounds), expected.length, digest);
  return matches(actual, expected);
}

function matches(actual: Buffer, expected: Buffer): boolean {
  return expected.length >= minChecksumBytes && timingSafeEqual(actual, expected);
}

function decodeAdapted(text: string): Buffer {
  return Buffer.from(text.replaceAll('.', '+'), 'base64');
}
