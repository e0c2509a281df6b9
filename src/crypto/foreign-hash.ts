import { createCipheriv, createHash, createHmac, pbkdf2Sync, scryptSync, timingSafeEqual } from 'node:crypto';
import { verifySync as bcryptVerifySync } from '@node-rs/bcrypt';
import { loadArgon2 } from './argon2.ts';

/** What is done to a password before bcrypt sees it, by the systems that do not give it the password itself. */
export type BcryptPreHash = 'none' | 'sha256-hex' | 'sha256-base64' | 'hmac-sha256-base64';

/** How scrypt is run: RFC 7914 section 2. */
export type ScryptCost = { N: number; r: number; p: number };

/** The hash function that PBKDF2 repeats. */
export type Pbkdf2Digest = 'sha1' | 'sha256' | 'sha512';

/** A password hash that another system made, taken apart. */
export type ForeignHash =
  | { kind: 'bcrypt'; encoded: string; preHash: BcryptPreHash }
  | { kind: 'argon2'; encoded: string }
  | { kind: 'scrypt'; cost: ScryptCost; salt: Buffer; checksum: Buffer; normalization?: 'NFKC' }
  | { kind: 'firebase'; cost: ScryptCost; salt: Buffer; keystream: Buffer }
  | { kind: 'pbkdf2'; digest: Pbkdf2Digest; rounds: number; salt: Buffer; checksum: Buffer };

const aesKeyBytes = 32;
const aesBlockBytes = 16;

/**
 * Checks a password against a hash that another system made, over the very bytes that it would have hashed: its
 * normalization, or its lack of one, is part of the hash. Blocks: call it in a worker.
 */
export function verifyForeignHash(password: string, hash: ForeignHash): boolean {
  switch (hash.kind) {
    case 'bcrypt':
      return bcryptVerifySync(preHashForBcrypt(password, hash), hash.encoded);
    case 'argon2':
      return loadArgon2().verifySync(hash.encoded, password);
    case 'scrypt': {
      const text = hash.normalization === undefined ? password : password.normalize(hash.normalization);
      return timingSafeEqual(runScrypt(text, hash.salt, hash.cost, hash.checksum.length), hash.checksum);
    }
    case 'firebase': {
      const key = runScrypt(password, hash.salt, hash.cost, aesKeyBytes);
      return timingSafeEqual(makeKeystream(key, hash.keystream.length), hash.keystream);
    }
    case 'pbkdf2': {
      const { salt, rounds, checksum, digest } = hash;
      return timingSafeEqual(pbkdf2Sync(password, salt, rounds, checksum.length, digest), checksum);
    }
  }
}

/** The digests are of 44 and 64 characters and hold no NUL, so bcrypt sees all of them. */
function preHashForBcrypt(password: string, { encoded, preHash }: ForeignHash & { kind: 'bcrypt' }): string {
  switch (preHash) {
    case 'none':
      return password;
    case 'sha256-hex':
      return createHash('sha256').update(password).digest('hex');
    case 'sha256-base64':
      return createHash('sha256').update(password).digest('base64');
    case 'hmac-sha256-base64':
      // Keyed with the salt as bcrypt spells it, 22 characters after `$2b$12$`.
      return createHmac('sha256', encoded.slice(7, 29)).update(password).digest('base64');
  }
}

function runScrypt(password: string, salt: Buffer, cost: ScryptCost, length: number): Buffer {
  // OpenSSL counts the working memory of all lanes; a bound of its own keeps a faulty look at the cost from more.
  return scryptSync(password, salt, length, { ...cost, maxmem: scryptMaxMemoryBytes });
}

/** AES-256 in counter mode from zero: what Firebase adds to the signer key. */
function makeKeystream(key: Buffer, length: number): Buffer {
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(aesBlockBytes)).update(Buffer.alloc(length));
}

// A stored hash decides what its check costs, so what a hostile import could ask for is bounded: N times r times p
// blocks of 128 bytes (256 MiB with p = 1), rounds (about two seconds), and what the two below say.
const scryptMaxWork = 2 ** 21;
const scryptMaxMemoryBytes = 260 * 1024 * 1024;
const pbkdf2MaxRounds = 5_000_000;
const bcryptMaxCost = 16;
const argon2MaxMemoryKibibytes = 262_144;
const argon2MaxPasses = 10;
const argon2MaxLanes = 16;
const digestBytes: Readonly<Record<Pbkdf2Digest, number>> = { sha1: 20, sha256: 32, sha512: 64 };

/** Whether a check at this cost of bcrypt, the logarithm of its rounds, is one that we are ready to pay. */
export function isAffordableBcrypt(cost: number): boolean {
  return cost <= bcryptMaxCost;
}

/** The same for argon2, by KiB of memory, passes and lanes. */
export function isAffordableArgon2(memory: number, passes: number, lanes: number): boolean {
  return memory <= argon2MaxMemoryKibibytes && passes <= argon2MaxPasses && lanes <= argon2MaxLanes;
}

/** The same for scrypt. */
export function isAffordableScrypt({ N, r, p }: ScryptCost): boolean {
  return N * r * p <= scryptMaxWork;
}

/** The same for PBKDF2, whose rounds are run for each block of the digest's length. */
export function isAffordablePbkdf2(digest: Pbkdf2Digest, rounds: number, checksumBytes: number): boolean {
  return rounds * Math.ceil(checksumBytes / digestBytes[digest]) <= pbkdf2MaxRounds;
}
