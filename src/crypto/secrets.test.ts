import assert from 'node:assert/strict';
import { createHmac, randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  constantTimeEqual,
  createKeyring,
  hmacSha256,
  keyLabels,
  randomToken,
  seal,
  sha256,
  unseal,
} from './secrets.ts';

const labels = keyLabels;
const text = () => fc.string({ unit: 'binary', maxLength: 200 });

function newSecret(): string {
  return randomBytes(48).toString('base64');
}

/** RFC 5869 sections 2.2 and 2.3 by hand, for one block of output. */
function hkdf(secret: string, info: string): Buffer {
  const pseudorandomKey = createHmac('sha256', 'latchkey').update(secret).digest();
  return createHmac('sha256', pseudorandomKey).update(info).update(Buffer.of(1)).digest();
}

function flipBit(sealed: string, bit: number): string {
  const [version, fingerprint, payload] = sealed.split('.');
  const bytes = Buffer.from(payload ?? '', 'base64url');
  const index = Math.floor(bit / 8) % bytes.length;
  bytes.writeUInt8(bytes.readUInt8(index) ^ (1 << (bit % 8)), index);
  return `${version}.${fingerprint}.${bytes.toString('base64url')}`;
}

describe('the keyring', () => {
  test('every key is HKDF-SHA-256 of the secret under a label of its own, so that stored data stays readable', () => {
    const secret = newSecret();
    const { current } = createKeyring([secret]);
    for (const label of labels) {
      assert.equal(current.key(label).toString('hex'), hkdf(secret, `latchkey/v1/${label}`).toString('hex'));
    }
    assert.equal(current.fingerprint, hkdf(secret, 'latchkey/v1/fingerprint').toString('hex').slice(0, 16));
  });

  test('no two labels and no two secrets share a key, and no key shows in a fingerprint', () => {
    const roots = createKeyring([newSecret(), newSecret(), newSecret()]).all;
    const keys = roots.flatMap((root) => labels.map((label) => root.key(label).toString('hex')));
    assert.equal(new Set(keys).size, roots.length * labels.length);
    for (const { fingerprint } of roots) {
      assert.match(fingerprint, /^[0-9a-f]{16}$/);
      assert.ok(!keys.some((key) => key.includes(fingerprint)));
    }
  });

  test('the first secret makes and the order of the list is kept', () => {
    const secrets = [newSecret(), newSecret()] as const;
    const { current, all } = createKeyring([...secrets]);
    const alone = secrets.map((secret) => createKeyring([secret]).current.fingerprint);
    assert.deepEqual([current.fingerprint, all.map((root) => root.fingerprint)], [alone[0], alone]);
  });
});

describe('digests and comparison', () => {
  test('a random token is 43 characters of base64url and never comes twice', () => {
    const tokens = Array.from({ length: 1000 }, randomToken);
    assert.ok(tokens.every((token) => /^[A-Za-z0-9_-]{43}$/.test(token)));
    assert.equal(new Set(tokens).size, tokens.length);
  });

  test('sha256 is the digest of FIPS 180-4 in base64url', () => {
    assert.match(sha256('abc'), /^[A-Za-z0-9_-]{43}$/);
    const expected = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad';
    assert.equal(Buffer.from(sha256('abc'), 'base64url').toString('hex'), expected);
  });

  test('a MAC depends on the key and on where one part ends and the next begins', () => {
    const key = randomBytes(32);
    const mac = hmacSha256(key, ['ab', 'c', 1]);
    assert.match(mac, /^[A-Za-z0-9_-]{43}$/);
    assert.equal(hmacSha256(key, ['ab', 'c', '1']), mac);
    for (const parts of [
      ['a', 'bc', 1],
      ['abc', 1],
      ['ab', 'c1'],
      ['ab', 'c', 1, ''],
      ['ab', 'c', 11],
    ]) {
      assert.notEqual(hmacSha256(key, parts), mac);
    }
    assert.notEqual(hmacSha256(randomBytes(32), ['ab', 'c', 1]), mac);
  });

  test('the comparison in constant time agrees with equality and never throws', () => {
    fc.assert(fc.property(text(), text(), (a, b) => constantTimeEqual(a, b) === (a === b) && constantTimeEqual(a, a)));
    // The same number of characters and another of bytes, and the other way round.
    assert.equal(constantTimeEqual('é', 'e'), false);
    assert.equal(constantTimeEqual('é', 'ee'), false);
    assert.equal(constantTimeEqual('', ''), true);
    assert.equal(constantTimeEqual('abc', 'abd'), false);
  });
});

describe('sealing', () => {
  const keyring = createKeyring([newSecret()]);

  test('what is sealed opens again under the same context, whatever the text', () => {
    fc.assert(
      fc.property(
        text(),
        text(),
        (plain, context) => unseal(keyring, seal(keyring, plain, context), context) === plain,
      ),
    );
  });

  test('the same text is sealed differently every time and cannot be read', () => {
    const sealed = Array.from({ length: 50 }, () => seal(keyring, 'a secret to keep', 'outbox/1'));
    assert.equal(new Set(sealed).size, 50);
    for (const value of sealed) {
      assert.match(value, new RegExp(`^v1\\.${keyring.current.fingerprint}\\.[A-Za-z0-9_-]+$`));
      assert.ok(!Buffer.from(value.split('.')[2] ?? '', 'base64url').includes('secret'));
    }
  });

  test('a value with any bit flipped does not open', () => {
    const sealed = seal(keyring, 'a secret to keep', 'outbox/1');
    const bits = Buffer.from(sealed.split('.')[2] ?? '', 'base64url').length * 8;
    for (let bit = 0; bit < bits; bit += 1) {
      assert.throws(() => unseal(keyring, flipBit(sealed, bit), 'outbox/1'), `bit ${bit}`);
    }
    fc.assert(
      fc.property(text(), fc.nat(100_000), (plain, bit) => {
        const flipped = flipBit(seal(keyring, plain, 'outbox/1'), bit);
        assert.throws(() => unseal(keyring, flipped, 'outbox/1'));
      }),
    );
  });

  test('a value cut short at any place does not open', () => {
    const sealed = seal(keyring, '', 'outbox/1');
    for (let length = 0; length < sealed.length; length += 1) {
      assert.throws(() => unseal(keyring, sealed.slice(0, length), 'outbox/1'), `${length} characters`);
    }
  });

  test('a value moved to another context does not open', () => {
    const differentContexts = fc.tuple(text(), text()).filter(([made, opened]) => made !== opened);
    fc.assert(
      fc.property(differentContexts, ([made, opened]) => {
        assert.throws(() => unseal(keyring, seal(keyring, 'plain', made), opened));
      }),
    );
  });

  test('an older secret still opens, and a missing one is named', () => {
    const [older, newer] = [newSecret(), newSecret()];
    const sealed = seal(createKeyring([older]), 'plain', 'outbox/1');
    assert.equal(unseal(createKeyring([newer, older]), sealed, 'outbox/1'), 'plain');
    const { fingerprint } = createKeyring([older]).current;
    assert.throws(
      () => unseal(createKeyring([newer]), sealed, 'outbox/1'),
      new RegExp(`${fingerprint} is not configured`),
    );
    const rotated = seal(createKeyring([newer, older]), 'plain', 'outbox/1');
    assert.equal(unseal(createKeyring([newer]), rotated, 'outbox/1'), 'plain');
  });

  test('the name of another configured secret does not open a value', () => {
    const both = createKeyring([newSecret(), newSecret()]);
    const [version, , payload] = seal(both, 'plain', 'outbox/1').split('.');
    assert.throws(() => unseal(both, `${version}.${both.all[1]?.fingerprint}.${payload}`, 'outbox/1'));
  });

  test('another version and other shapes are malformed', () => {
    const sealed = seal(keyring, 'plain', 'outbox/1');
    for (const version of ['v2', 'v0', 'V1', 'v11', '']) {
      assert.throws(() => unseal(keyring, sealed.replace(/^v1/, version), 'outbox/1'), /malformed/);
    }
    for (const value of ['', '.', '..', 'v1', 'v1.', 'plain', `v1.${keyring.current.fingerprint}`]) {
      assert.throws(() => unseal(keyring, value, 'outbox/1'));
    }
  });
});
