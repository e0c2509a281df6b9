import assert from 'node:assert/strict';
import { argon2Sync, randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { argon2id, assertMismatch, replaceable, startHasher, unreadable } from '../../test/passwords.ts';

// Of "correct horse" with the salt "0123456789abcdef", computed by Python's hashlib.
const foreignVectors = [
  ['scrypt', '$scrypt$ln=12,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$/jx4uMnBLEcnyBJyK5rKAfmnFbwMBoBPE5YY+OEpHOo'],
  ['PBKDF2-SHA-256', '$pbkdf2-sha256$29000$MDEyMzQ1Njc4OWFiY2RlZg$uHVoxjLD1v3uqpdY8ehNPGUYMiKj8ROQSRwMSE033NY'],
  [
    'PBKDF2-SHA-512',
    '$pbkdf2-sha512$29000$MDEyMzQ1Njc4OWFiY2RlZg$SSH4tYdnj40UcN3bNwqYRgw7G3muMxydEPt9.o3n1Hn6fy1wwD4CGySBD8KHAERUSAhpIilxI7ToAO4cbOdCZA',
  ],
] as const;

describe('hashes from elsewhere', () => {
  // Made with crypt(3) of libxcrypt 4.4, another implementation than the one that verifies.
  const foreign: [string, string][] = [
    ['correct horse', '$2a$05$latchkeylatchkeylatchuLbDC7WjqJUx8KxhMti0bacip7nFXkJ6'],
    ['correct horse', '$2y$05$latchkeylatchkeylatchuLbDC7WjqJUx8KxhMti0bacip7nFXkJ6'],
    ['gr\u00fc\u00dfe aus K\u00f6ln', '$2b$05$latchkeylatchkeylatchuMP6QeVRoQa6twgRH/QRkNGUrhvq/j9m'],
    ['x'.repeat(80), '$2y$05$latchkeylatchkeylatchuxmpRs8wZGry0JHXjkxWK8YKbmt4T5ae'],
  ];
  for (const [password, stored] of foreign) {
    test(`a plain bcrypt hash ${stored.slice(0, 3)} of ${password.slice(0, 15)} matches and is outdated`, async (t) => {
      for (const scheme of [{ name: 'bcrypt', cost: 5 } as const, argon2id]) {
        const hasher = startHasher(t, { scheme });
        assert.deepEqual(await hasher.verify(password, stored), replaceable);
        await assertMismatch(hasher, `!${password}`, stored);
      }
    });
  }

  test('an argon2id hash verifies and is outdated, also one with our parameters but without our pepper', async (t) => {
    const hasher = startHasher(t, { scheme: argon2id });
    const parameters = [
      { memory: 64, passes: 3, parallelism: 2, tagLength: 32 },
      { memory: 19_456, passes: 2, parallelism: 1, tagLength: 32 },
      { memory: 256, passes: 1, parallelism: 1, tagLength: 16 },
    ];
    for (const chosen of parameters) {
      const stored = encodeArgon2id('correct horse', chosen);
      assert.deepEqual(await hasher.verify('correct horse', stored), replaceable);
      await assertMismatch(hasher, 'wrong horse', stored);
    }
  });

  test('a stored hash of an unknown form matches nothing and is reported as unreadable', async (t) => {
    const hasher = startHasher(t);
    const own = await hasher.hash('correct horse');
    const unknown = [
      '',
      'correct horse',
      '{SSHA}c2FsdA==',
      '$1$salt$hash',
      '$2b$10$short',
      '$argon2i$v=19$m=64,t=3,p=1$c2FsdHNhbHQ$aGFzaA',
    ];
    const damaged = [
      own.replace('lk1', 'lk2'),
      own.replace(/:\$.*/, ':'),
      own.toUpperCase(),
      ` ${own}`,
      own.slice(0, -1),
    ];
    for (const stored of [...unknown, ...damaged]) {
      assert.deepEqual(await hasher.verify('correct horse', stored), unreadable, stored);
    }
  });

  test('a stored hash that any password would match, or that asks for more than we pay, is unreadable', async (t) => {
    const hasher = startHasher(t);
    const salt = 'MDEyMzQ1Njc4OWFiY2RlZg';
    const sum = '/jx4uMnBLEcnyBJyK5rKAfmnFbwMBoBPE5YY+OEpHOo';
    const hostile = [
      // A checksum of no bytes equals every other; one of a few bytes is soon guessed.
      `$scrypt$ln=4,r=8,p=1$${salt}$A`,
      `$scrypt$ln=4,r=8,p=1$${salt}$AAAA`,
      `$pbkdf2-sha256$1000$${salt}$A`,
      // Memory and time.
      `$scrypt$ln=19,r=8,p=1$${salt}$${sum}`,
      `$scrypt$ln=99,r=8,p=1$${salt}$${sum}`,
      `$scrypt$ln=16,r=8,p=16$${salt}$${sum}`,
      `$scrypt$ln=0,r=8,p=1$${salt}$${sum}`,
      `$pbkdf2-sha256$0$${salt}$${sum.replaceAll('+', '.')}`,
      `$pbkdf2-sha256$9000000$${salt}$${sum.replaceAll('+', '.')}`,
      `$pbkdf2-sha256$1000$${salt}$${'A'.repeat(4000)}`,
      `$argon2id$v=19$m=4294967295,t=2,p=1$${salt}$${sum}`,
      `$argon2id$v=19$m=999999,t=2,p=1$${salt}$${sum}`,
      `$argon2id$v=19$m=19456,t=0,p=1$${salt}$${sum}`,
      `$argon2id$v=19$m=19456,t=99,p=1$${salt}$${sum}`,
      '$2b$31$latchkeylatchkeylatchuLbDC7WjqJUx8KxhMti0bacip7nFXkJ6',
      '$2b$99$latchkeylatchkeylatchuLbDC7WjqJUx8KxhMti0bacip7nFXkJ6',
    ];
    for (const stored of hostile) {
      assert.deepEqual(await hasher.verify('any password whatever', stored), unreadable, stored);
    }
  });

  for (const [system, stored] of foreignVectors) {
    test(`a hash that ${system} made matches its password alone and is outdated`, async (t) => {
      const hasher = startHasher(t);
      assert.deepEqual(await hasher.verify('correct horse', stored), replaceable);
      await assertMismatch(hasher, 'wrong horse', stored);
    });
  }
});

type Argon2idParameters = { memory: number; passes: number; parallelism: number; tagLength: number };

/** Makes a hash in the PHC string format with Node's own argon2, not the library that verifies. */
function encodeArgon2id(message: string, parameters: Argon2idParameters): string {
  const nonce = randomBytes(16);
  const digest = argon2Sync('argon2id', { message, nonce, ...parameters });
  const unpadded = (bytes: Buffer) => bytes.toString('base64').replaceAll('=', '');
  const { memory, passes, parallelism } = parameters;
  return `$argon2id$v=19$m=${memory},t=${passes},p=${parallelism}$${unpadded(nonce)}$${unpadded(digest)}`;
}
