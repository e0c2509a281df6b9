import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { describe, test } from 'node:test';
import { verifySync as bcryptVerifySync } from '@node-rs/bcrypt';
import { median } from '../../bench/statistics.ts';
import {
  argon2id,
  assertMismatch,
  cheap,
  current,
  newSecret,
  replaceable,
  startHasher,
  unreadable,
} from '../../test/passwords.ts';
import { HashAbandonedError, HashQueueFullError } from './hash-pool.ts';
import type { HashScheme } from './hash-scheme.ts';
import type { PasswordHasher } from './passwords.ts';
import { createKeyring } from './secrets.ts';

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

describe('a hash from before the cost was raised', () => {
  for (const password of ['wrong horse', 'correct horse']) {
    test(`takes as long to check as where none is stored (${password})`, async (t) => {
      const keyring = createKeyring([newSecret()]);
      const stored = await startHasher(t, { keyring, scheme: { name: 'bcrypt', cost: 5 } }).hash('correct horse');
      const hasher = startHasher(t, { keyring, scheme: { name: 'bcrypt', cost: 8 } });
      await hasher.verify('wrong horse', null);
      const ratios: number[] = [];
      while (ratios.length < 5 && !ratios.some((ratio) => Math.abs(ratio - 1) < 0.3)) {
        ratios.push(await compareMedians(hasher, stored, password));
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

/** Times checks with and without a stored hash in turn and returns the ratio of their medians. */
async function compareMedians(hasher: PasswordHasher, stored: string, password = 'wrong horse'): Promise<number> {
  const [withHash, without]: [number[], number[]] = [[], []];
  for (let i = 0; i < 15; i += 1) {
    withHash.push(await timeCheck(hasher, stored, password));
    without.push(await timeCheck(hasher, null, password));
  }
  return median(without) / median(withHash);
}

async function timeCheck(hasher: PasswordHasher, stored: string | null, password: string): Promise<number> {
  const startedAtMs = performance.now();
  await hasher.verify(password, stored);
  return performance.now() - startedAtMs;
}
