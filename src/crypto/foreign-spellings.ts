import {
  type BcryptPreHash,
  type ForeignHash,
  isAffordableArgon2,
  isAffordableBcrypt,
  isAffordablePbkdf2,
  isAffordableScrypt,
  type Pbkdf2Digest,
  type ScryptCost,
} from './foreign-hash.ts';

/** Why a hash cannot be checked here. */
export type ForeignHashFault = 'unknown_format' | 'too_costly' | 'too_short';

type Groups = Readonly<Record<string, string | undefined>>;
type Spelling = { pattern: RegExp; read(groups: Groups): ForeignHash | ForeignHashFault };

// An empty checksum equals the checksum of every password, and one of a few bytes is soon guessed.
const minChecksumBytes = 16;
const minBcryptCost = 4;
const memoryPerArgon2Lane = 8;

/**
 * Every spelling that we read. What an import accepts and what a login checks is decided by this one table, so that
 * nothing is stored that could never match.
 */
const spellings: readonly Spelling[] = [
  // bcrypt as crypt(3) spells it, and Django before it: `bcrypt$$2b$12$…`. Not $2x$, which stands for a fault of one
  // implementation with text beyond ASCII that nobody else repeats.
  {
    pattern: /^(?:bcrypt\$)?\$2[aby]\$(?<cost>\d\d)\$(?<rest>[./A-Za-z0-9]{53})$/,
    read: (groups) => readBcrypt(groups, 'none'),
  },
  // Django: bcrypt over the hexadecimal SHA-256 of the password.
  {
    pattern: /^bcrypt_sha256\$\$2[aby]\$(?<cost>\d\d)\$(?<rest>[./A-Za-z0-9]{53})$/,
    read: (groups) => readBcrypt(groups, 'sha256-hex'),
  },
  // passlib's bcrypt_sha256, version 1 and version 2, which keys the digest with the salt.
  {
    pattern: /^\$bcrypt-sha256\$2[aby],(?<cost>\d{1,2})\$(?<salt>[./A-Za-z0-9]{22})\$(?<sum>[./A-Za-z0-9]{31})$/,
    read: (groups) => readBcrypt(groups, 'sha256-base64'),
  },
  {
    pattern: /^\$bcrypt-sha256\$v=2,t=2b,r=(?<cost>\d{1,2})\$(?<salt>[./A-Za-z0-9]{22})\$(?<sum>[./A-Za-z0-9]{31})$/,
    read: (groups) => readBcrypt(groups, 'hmac-sha256-base64'),
  },
  // The PHC string of argon2, also with Django's `argon2` before it.
  {
    pattern:
      /^(?:argon2)?(?<encoded>\$argon2(?:id|i|d)\$v=(?:16|19)\$m=(?<memory>\d{1,10}),t=(?<passes>\d{1,10}),p=(?<lanes>\d{1,3})\$[A-Za-z0-9+/]{11,86}\$(?<sum>[A-Za-z0-9+/]{1,86}))$/,
    read: readArgon2,
  },
  // The PHC string of scrypt, as passlib writes it too.
  {
    pattern:
      /^\$scrypt\$ln=(?<ln>\d{1,2}),r=(?<r>\d{1,4}),p=(?<p>\d{1,4})\$(?<salt>[A-Za-z0-9+/]{2,128})\$(?<sum>[A-Za-z0-9+/]{1,86})$/,
    read: ({ ln, salt = '', sum = '', ...cost }) =>
      checkScrypt({ N: 2 ** Number(ln), ...toLanes(cost) }, decode(salt), decode(sum)),
  },
  // Django: cost, salt as text, block size, lanes.
  {
    pattern:
      /^scrypt\$(?<n>\d{1,9})\$(?<salt>[^$]{1,128})\$(?<r>\d{1,4})\$(?<p>\d{1,4})\$(?<sum>[A-Za-z0-9+/]{1,86}={0,2})$/,
    read: ({ n, salt = '', sum = '', ...cost }) =>
      checkScrypt({ N: Number(n), ...toLanes(cost) }, Buffer.from(salt), decode(sum)),
  },
  // Werkzeug, which Flask uses.
  {
    pattern: /^scrypt:(?<n>\d{1,9}):(?<r>\d{1,4}):(?<p>\d{1,4})\$(?<salt>[^$]{1,128})\$(?<sum>(?:[0-9a-f]{2}){1,64})$/,
    read: ({ n, salt = '', sum = '', ...cost }) =>
      checkScrypt({ N: Number(n), ...toLanes(cost) }, Buffer.from(salt), Buffer.from(sum, 'hex')),
  },
  // better-auth: fixed parameters, the salt's hexadecimal digits are the salt, and the password is normalized.
  {
    pattern: /^(?<salt>[0-9a-f]{32}):(?<sum>[0-9a-f]{128})$/,
    read: ({ salt = '', sum = '' }) => {
      const hash = checkScrypt({ N: 16_384, r: 16, p: 1 }, Buffer.from(salt), Buffer.from(sum, 'hex'));
      return typeof hash === 'string' || hash.kind !== 'scrypt' ? hash : { ...hash, normalization: 'NFKC' };
    },
  },
  // Ours, for a hash of Firebase (see firebase-hash.ts).
  {
    pattern:
      /^\$firebase-scrypt\$ln=(?<ln>\d{1,2}),r=(?<r>\d{1,4})\$(?<salt>[A-Za-z0-9+/=]{2,128})\$(?<sum>[A-Za-z0-9+/=]{1,176})$/,
    read: ({ ln, r, salt = '', sum = '' }) => {
      const hash = checkScrypt({ N: 2 ** Number(ln), r: Number(r), p: 1 }, decode(salt), decode(sum));
      if (typeof hash === 'string' || hash.kind !== 'scrypt') return hash;
      return { kind: 'firebase', cost: hash.cost, salt: hash.salt, keystream: hash.checksum };
    },
  },
  // passlib, with "." for "+"; and the PHC string, whose parameters have names.
  {
    pattern:
      /^\$pbkdf2(?:-(?<digest>sha1|sha256|sha512))?\$(?:i=)?(?<rounds>\d{1,10})(?:,l=\d{1,3})?\$(?<salt>[A-Za-z0-9+./]{2,128})={0,2}\$(?<sum>[A-Za-z0-9+./]{1,86})={0,2}$/,
    read: ({ salt = '', sum = '', ...rest }) => checkPbkdf2(rest, decode(salt), decode(sum)),
  },
  // Django: the salt is text.
  {
    pattern:
      /^pbkdf2_(?<digest>sha1|sha256|sha512)\$(?<rounds>\d{1,10})\$(?<salt>[^$]{1,128})\$(?<sum>[A-Za-z0-9+/]{1,86}={0,2})$/,
    read: ({ salt = '', sum = '', ...rest }) => checkPbkdf2(rest, Buffer.from(salt), decode(sum)),
  },
  // Werkzeug.
  {
    pattern:
      /^pbkdf2:(?<digest>sha1|sha256|sha512):(?<rounds>\d{1,10})\$(?<salt>[^$]{1,128})\$(?<sum>(?:[0-9a-f]{2}){1,64})$/,
    read: ({ salt = '', sum = '', ...rest }) => checkPbkdf2(rest, Buffer.from(salt), Buffer.from(sum, 'hex')),
  },
];

/** Takes a hash apart that another system made, or says why it cannot be checked here. */
export function readForeignHash(text: string): ForeignHash | ForeignHashFault {
  for (const { pattern, read } of spellings) {
    const groups = pattern.exec(text)?.groups;
    if (groups !== undefined) return read(groups);
  }
  return 'unknown_format';
}

function readBcrypt({ cost = '', rest, salt = '', sum = '' }: Groups, preHash: BcryptPreHash) {
  if (Number(cost) < minBcryptCost) return 'unknown_format';
  if (!isAffordableBcrypt(Number(cost))) return 'too_costly';
  const encoded = `$2b$${cost.padStart(2, '0')}$${rest ?? salt + sum}`;
  return { kind: 'bcrypt', encoded, preHash } as const;
}

function readArgon2({ encoded = '', sum = '', ...costs }: Groups) {
  const [memory, passes, lanes] = [Number(costs.memory), Number(costs.passes), Number(costs.lanes)];
  // RFC 9106 section 3.1: what is less than this is no argon2, and the library calls it a mismatch in microseconds.
  if (passes < 1 || lanes < 1 || memory < memoryPerArgon2Lane * lanes) return 'unknown_format';
  if (!isAffordableArgon2(memory, passes, lanes)) return 'too_costly';
  return decode(sum).length < minChecksumBytes ? 'too_short' : ({ kind: 'argon2', encoded } as const);
}

function toLanes({ r, p }: Groups) {
  return { r: Number(r), p: Number(p) };
}

function checkScrypt(cost: ScryptCost, salt: Buffer, checksum: Buffer): ForeignHash | ForeignHashFault {
  const { N, r, p } = cost;
  // RFC 7914 section 2: N is a power of two, and larger than one.
  if (N < 2 || !Number.isInteger(Math.log2(N)) || r < 1 || p < 1) return 'unknown_format';
  if (!isAffordableScrypt(cost)) return 'too_costly';
  return checksum.length < minChecksumBytes ? 'too_short' : { kind: 'scrypt', cost, salt, checksum };
}

function checkPbkdf2(groups: Groups, salt: Buffer, checksum: Buffer): ForeignHash | ForeignHashFault {
  const rounds = Number(groups.rounds);
  // passlib leaves the name of SHA-1 out. The pattern knows these names alone.
  const digest = (groups.digest ?? 'sha1') as Pbkdf2Digest;
  if (rounds < 1) return 'unknown_format';
  if (!isAffordablePbkdf2(digest, rounds, checksum.length)) return 'too_costly';
  return checksum.length < minChecksumBytes ? 'too_short' : { kind: 'pbkdf2', digest, rounds, salt, checksum };
}

function decode(text: string): Buffer {
  return Buffer.from(text.replaceAll('.', '+'), 'base64');
}
