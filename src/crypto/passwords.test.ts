import assert from 'node:assert/strict';
import { argon2Sync, createHmac, randomBytes } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { describe, type TestContext, test } from 'node:test';
import { verifySync as bcryptVerifySync } from '@node-rs/bcrypt';
import { HashAbandonedError, HashQueueFullError } from './hash-pool.ts';
import type { HashScheme } from './hash-scheme.ts';
import { createPasswordHasher, type PasswordHasher } from './passwords.ts';
import { createKeyring, type Keyring } from './secrets.ts';

const cheap: HashScheme = { name: 'bcrypt', cost: 4 };
const argon2id: HashScheme = { name: 'argon2id' };
const current = { matches: true, outdated: false, unreadable: false };
const replaceable = { matches: true, outdated: true, unreadable: false };
const unreadable = { matches: false, outdated: false, unreadable: true };

// Of "correct horse" with the salt "0123456789abcdef", computed by Python's hashlib.
const foreignVectors = [
  ['scrypt', '$scrypt$ln=12,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$/jx4uMnBLEcnyBJyK5rKAfmnFbwMBoBPE5YY+OEpHOo'],
  ['PBKDF2-SHA-256', '$pbkdf2-sha256$29000$MDEyMzQ1Njc4OWFiY2RlZg$uHVoxjLD1v3uqpdY8ehNPGUYMiKj8ROQSRwMSE033NY'],
  [
    'PBKDF2-SHA-512',
    '$pbkdf2-sha512$29000$MDEyMzQ1Njc4OWFiY2RlZg$SSH4tYdnj40UcN3bNwqYRgw7G3muMxydEPt9.o3n1Hn6fy1wwD4CGySBD8KHAERUSAhpIilxI7ToAO4cbOdCZA',
  ],
] as const;

function newSecret(): string {
  return randomBytes(48).toString('base64');
}

type Options = { keyring?: Keyring; scheme?: HashScheme; threads?: number; maxWaiting?: number };

function startHasher(t: TestContext, options: Options = {}): PasswordHasher {
  const keyring = options.keyring ?? createKeyring([newSecret()]);
  const hasher = createPasswordHasher({ scheme: cheap, threads: 1, maxWaiting: 50, ...options, keyring });
  t.after(() => hasher.close());
  return hasher;
}

async function assertMismatch(hasher: PasswordHasher, password: string, stored: string | null): Promise<void> {
  assert.equal((await hasher.verify(password, stored)).matches, false, JSON.stringify(password));
}

describe('our own hashes', () => {
  test('a hash says its scheme, its secret and nothing of the password', async (t) => {
    const keyring = createKeyring([newSecret()]);
    const stored = await startHasher(t, { keyring }).hash('correct horse');
    assert.match(stored, new RegExp(`^lk1:${keyring.current.fingerprint}:\\$2b\\$04\\$[./A-Za-z0-9]{53}$`));
    const again = await startHasher(t, { keyring, scheme: argon2id }).hash('correct horse');
    const argon2Pattern = '\\$argon2id\\$v=19\\$m=19456,t=2,p=1\\$[+/A-Za-z0-9]{22,}\\$[+/A-Za-z0-9]{43}';
    assert.match(again, new RegExp(`^lk1:${keyring.current.fingerprint}:${argon2Pattern}$`));
  });

  for (const scheme of [cheap, argon2id]) {
    test(`${scheme.name}: the right password alone matches, and no two hashes are alike`, async (t) => {
      const hasher = startHasher(t, { scheme });
      const stored = await hasher.hash('correct horse');
      assert.deepEqual(await hasher.verify('correct horse', stored), current);
      for (const wrong of [
        '',
        'correct hors',
        'correct horse ',
        ' correct horse',
        'Correct horse',
        'correct horse\0',
      ]) {
        await assertMismatch(hasher, wrong, stored);
      }
      assert.notEqual(await hasher.hash('correct horse'), stored);
    });
  }

  test('what is hashed is base64 of HMAC-SHA-384 under the pepper, never the password itself', async (t) => {
    const keyring = createKeyring([newSecret()]);
    const stored = await startHasher(t, { keyring }).hash('correct horse');
    const inner = stored.split(':')[2] ?? '';
    const pepper = keyring.current.key('password-pepper');
    const input = createHmac('sha384', pepper).update('correct horse').digest('base64');
    assert.equal(input.length, 64);
    assert.ok(bcryptVerifySync(input, inner));
    assert.ok(!bcryptVerifySync('correct horse', inner));
  });

  test('passwords that differ after 72 bytes or after a NUL are different passwords', async (t) => {
    const hasher = startHasher(t);
    for (const prefix of ['x'.repeat(72), 'x'.repeat(255), '\u{1f600}'.repeat(72), 'abc\0', '\0']) {
      const stored = await hasher.hash(`${prefix}1`);
      assert.deepEqual(await hasher.verify(`${prefix}1`, stored), current);
      for (const wrong of [`${prefix}2`, prefix, `${prefix}11`]) await assertMismatch(hasher, wrong, stored);
    }
  });

  test('spellings that NFKC makes equal are the same password', async (t) => {
    const hasher = startHasher(t);
    const pairs = [
      ['caf\u00e9 au lait', 'cafe\u0301 au lait'],
      ['o\ufb03ce hours', 'office hours'],
      ['\uff50\uff41\uff53\uff53 phrase', 'pass phrase'],
      ['\uac00\uac01 seoul', '\u1100\u1161\u1100\u1161\u11a8 seoul'],
    ] as const;
    for (const [composed, decomposed] of pairs) {
      assert.notEqual(composed, decomposed);
      assert.deepEqual(await hasher.verify(decomposed, await hasher.hash(composed)), current);
      assert.deepEqual(await hasher.verify(composed, await hasher.hash(decomposed)), current);
    }
    await assertMismatch(hasher, 'cafe au lait', await hasher.hash('caf\u00e9 au lait'));
  });
});

describe('outdated hashes', () => {
  test('a hash of another cost or another scheme matches and is outdated', async (t) => {
    const keyring = createKeyring([newSecret()]);
    const schemes: HashScheme[] = [cheap, { name: 'bcrypt', cost: 5 }, argon2id];
    const hashers = schemes.map((scheme) => startHasher(t, { keyring, scheme }));
    for (const [made, maker] of hashers.entries()) {
      const stored = await maker.hash('correct horse');
      for (const [checked, checker] of hashers.entries()) {
        assert.deepEqual(await checker.verify('correct horse', stored), {
          matches: true,
          outdated: made !== checked,
          unreadable: false,
        });
        await assertMismatch(checker, 'wrong horse', stored);
      }
    }
  });

  test('a cost that begins with the same digit is another cost', async (t) => {
    const keyring = createKeyring([newSecret()]);
    const stored = await startHasher(t, { keyring, scheme: { name: 'bcrypt', cost: 10 } }).hash('correct horse');
    assert.match(stored, /\$2b\$10\$/);
    const other = startHasher(t, { keyring, scheme: { name: 'bcrypt', cost: 11 } });
    assert.deepEqual(await other.verify('correct horse', stored), replaceable);
  });

  test('after a rotation the old secret still verifies, as outdated, and the new one hashes', async (t) => {
    const [older, newer] = [newSecret(), newSecret()];
    const stored = await startHasher(t, { keyring: createKeyring([older]) }).hash('correct horse');
    const rotated = startHasher(t, { keyring: createKeyring([newer, older]) });
    assert.deepEqual(await rotated.verify('correct horse', stored), replaceable);
    await assertMismatch(rotated, 'wrong horse', stored);
    const replaced = await rotated.hash('correct horse');
    const afterwards = startHasher(t, { keyring: createKeyring([newer]) });
    assert.deepEqual(await afterwards.verify('correct horse', replaced), current);
  });

  test('a hash under a secret that is not configured matches nothing and is reported as unreadable', async (t) => {
    const stored = await startHasher(t).hash('correct horse');
    const hasher = startHasher(t);
    for (const password of ['correct horse', 'wrong horse']) {
      assert.deepEqual(await hasher.verify(password, stored), unreadable);
    }
  });

  test('a secret cannot be claimed by renaming the hash of another', async (t) => {
    const keyring = createKeyring([newSecret(), newSecret()]);
    const hasher = startHasher(t, { keyring });
    const stored = await hasher.hash('correct horse');
    const renamed = stored.replace(keyring.current.fingerprint, keyring.all[1]?.fingerprint ?? '');
    assert.notEqual(renamed, stored);
    await assertMismatch(hasher, 'correct horse', renamed);
  });
});

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

  for (const [system, stored] of foreignVectors) {
    test(`a hash that ${system} made matches its password alone and is outdated`, async (t) => {
      const hasher = startHasher(t);
      assert.deepEqual(await hasher.verify('correct horse', stored), replaceable);
      await assertMismatch(hasher, 'wrong horse', stored);
    });
  }
});

describe('an account without a password', () => {
  for (const scheme of [cheap, argon2id]) {
    test(`${scheme.name}: nothing matches where no hash is stored`, async (t) => {
      const hasher = startHasher(t, { scheme });
      for (const password of ['', 'correct horse', 'null', 'undefined']) await assertMismatch(hasher, password, null);
    });
  }

  for (const scheme of [{ name: 'bcrypt', cost: 8 } as const, argon2id]) {
    test(`${scheme.name}: a check where no hash is stored takes as long as a real one`, async (t) => {
      const hasher = startHasher(t, { scheme });
      const stored = await hasher.hash('correct horse');
      await hasher.verify('wrong horse', null);
      const ratios: number[] = [];
      // A busy machine may spoil one round; a dummy that is not a real hash spoils all of them.
      while (ratios.length < 5 && !ratios.some((ratio) => Math.abs(ratio - 1) < 0.3)) {
        ratios.push(await compareMedians(hasher, stored));
      }
      assert.ok(Math.abs((ratios.at(-1) ?? 0) - 1) < 0.3, `median without a hash, to the real one: ${ratios}`);
    });
  }
});

describe('the bounds of hashing', () => {
  test('a full queue refuses and a client that goes away frees its place', async (t) => {
    const hasher = startHasher(t, { scheme: { name: 'bcrypt', cost: 9 }, maxWaiting: 1 });
    const stored = await hasher.hash('correct horse');
    const leaving = new AbortController();
    const running = hasher.verify('correct horse', stored);
    const waiter = hasher.hash('correct horse', leaving.signal);
    assert.equal(hasher.waiting(), 1);
    await assert.rejects(hasher.verify('correct horse', stored), HashQueueFullError);
    await assert.rejects(hasher.hash('correct horse'), HashQueueFullError);
    leaving.abort();
    await assert.rejects(waiter, HashAbandonedError);
    assert.equal(hasher.waiting(), 0);
    assert.deepEqual(await running, current);
    const next = hasher.verify('wrong horse', stored, new AbortController().signal);
    assert.equal((await next).matches, false);
  });

  test('a check where no hash is stored waits in the same queue and is abandoned alike', async (t) => {
    const hasher = startHasher(t, { scheme: { name: 'bcrypt', cost: 9 }, maxWaiting: 1 });
    await hasher.verify('correct horse', null);
    const leaving = new AbortController();
    const running = hasher.hash('correct horse');
    const waiter = assert.rejects(hasher.verify('correct horse', null, leaving.signal), HashAbandonedError);
    for (let turn = 0; turn < 10; turn += 1) await Promise.resolve();
    assert.equal(hasher.waiting(), 1);
    await assert.rejects(hasher.verify('correct horse', null), HashQueueFullError);
    leaving.abort();
    await waiter;
    await running;
  });
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

/** Times checks with and without a stored hash in turn and returns the ratio of their medians. */
async function compareMedians(hasher: PasswordHasher, stored: string): Promise<number> {
  const [withHash, without]: [number[], number[]] = [[], []];
  for (let i = 0; i < 15; i += 1) {
    withHash.push(await timeCheck(hasher, stored));
    without.push(await timeCheck(hasher, null));
  }
  return median(without) / median(withHash);
}

async function timeCheck(hasher: PasswordHasher, stored: string | null): Promise<number> {
  const startedAtMs = performance.now();
  await hasher.verify('wrong horse', stored);
  return performance.now() - startedAtMs;
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}
