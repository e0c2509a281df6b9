import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { firebaseParameters, firebaseVector, foreignVectors } from '../../test/foreign-hashes.ts';
import { assertMismatch, current, newSecret, replaceable, startHasher, unreadable } from '../../test/passwords.ts';
import { convertFirebaseHash, readFirebaseParameters } from './firebase-hash.ts';
import { createKeyring, type Keyring } from './secrets.ts';
import { type AdoptionFault, adoptHash, isForeignStored } from './stored-hash.ts';

const firebase = readFirebaseParameters(firebaseParameters);
const salt = 'MDEyMzQ1Njc4OWFiY2RlZg';
const sum = '/jx4uMnBLEcnyBJyK5rKAfmnFbwMBoBPE5YY+OEpHOo';
const hex = 'ab'.repeat(32);

function adopt(keyring: Keyring, hash: string): string {
  const adopted = adoptHash(keyring, hash, firebase);
  assert.ok('stored' in adopted, `${hash} is refused: ${JSON.stringify(adopted)}`);
  return adopted.stored;
}

describe('hashes that are brought from elsewhere', () => {
  for (const { system, password, hash } of [...foreignVectors, firebaseVector]) {
    test(`${system}: the right password alone matches, and the hash is to be replaced`, async (t) => {
      const keyring = createKeyring([newSecret()]);
      const hasher = startHasher(t, { keyring });
      const stored = adopt(keyring, hash);
      assert.deepEqual(await hasher.verify(password, stored), replaceable);
      for (const wrong of [`${password} `, password.toUpperCase(), '', hash])
        await assertMismatch(hasher, wrong, stored);
    });
  }

  test('what is stored is sealed: without SECRET_KEY it shows neither hash nor salt, and none is like another', async (t) => {
    const [older, newer] = [newSecret(), newSecret()];
    const keyring = createKeyring([older]);
    const { password, hash } = foreignVectors[0] ?? firebaseVector;
    const stored = adopt(keyring, hash);
    assert.match(stored, new RegExp(`^foreign:v1\\.${keyring.current.fingerprint}\\.[A-Za-z0-9_-]+$`));
    assert.notEqual(adopt(keyring, hash), stored);
    assert.ok(isForeignStored(stored));
    const rotated = startHasher(t, { keyring: createKeyring([newer, older]) });
    assert.deepEqual(await rotated.verify(password, stored), replaceable, 'an older secret still opens it');
    const foreign = startHasher(t, { keyring: createKeyring([newer]) });
    for (const damaged of [stored, stored.slice(0, -2), stored.replace('foreign:', 'foreign:x')]) {
      assert.deepEqual(await foreign.verify(password, damaged), unreadable);
    }
  });

  test('of a hash from Firebase nothing of the signer key is kept', () => {
    assert.ok(firebase);
    const kept = convertFirebaseHash(firebaseVector.hash, firebase);
    assert.match(kept ?? '', /^\$firebase-scrypt\$ln=14,r=8\$/);
    const bytes = Buffer.from(kept?.split('$').at(-1) ?? '', 'base64');
    assert.equal(bytes.length, firebase.signerKey.length);
    assert.ok(!bytes.includes(firebase.signerKey.subarray(0, 4)));
    const json =
      '{"base64_signer_key":"jxspr8Ki0RYycVU8zykbdA==","base64_salt_separator":"Bw==","rounds":8,"mem_cost":14}';
    assert.equal(readFirebaseParameters(json)?.memoryCost, 14);
    for (const missing of [
      '',
      'rounds: 8',
      firebaseParameters.replace('mem_cost', 'cost'),
      json.replace(':8,', ':800,'),
    ]) {
      assert.equal(readFirebaseParameters(missing), undefined, missing);
    }
  });

  test('a hash of ours is taken where its secret is configured, as it is', async (t) => {
    const keyring = createKeyring([newSecret()]);
    const hasher = startHasher(t, { keyring });
    const own = await hasher.hash('correct horse');
    assert.equal(adopt(keyring, own), own);
    assert.deepEqual(await hasher.verify('correct horse', adopt(keyring, own)), current);
    assert.ok(!isForeignStored(own));
    const sealed = adopt(keyring, foreignVectors[0]?.hash ?? '');
    assert.equal(adopt(keyring, sealed), sealed);
    const other = createKeyring([newSecret()]);
    for (const stored of [own, sealed]) assert.deepEqual(adoptHash(other, stored, firebase), { fault: 'other_secret' });
  });

  const refused: [string, AdoptionFault][] = [
    ['', 'unknown_format'],
    ['correct horse', 'unknown_format'],
    ['5f4dcc3b5aa765d61d8327deb882cf99', 'unknown_format'],
    ['{SSHA}c2FsdA==', 'unknown_format'],
    ['$1$salt$hash', 'unknown_format'],
    ['sha1$salt$0123', 'unknown_format'],
    ['$2b$10$short', 'unknown_format'],
    ['$2b$03$latchkeylatchkeylatchuLbDC7WjqJUx8KxhMti0bacip7nFXkJ6', 'unknown_format'],
    ['$2x$05$latchkeylatchkeylatchuLbDC7WjqJUx8KxhMti0bacip7nFXkJ6', 'unknown_format'],
    [`$scrypt$ln=0,r=8,p=1$${salt}$${sum}`, 'unknown_format'],
    [`scrypt$3000$salt$8$1$${sum}=`, 'unknown_format'],
    [`$pbkdf2-sha256$0$${salt}$${sum}`, 'unknown_format'],
    [`pbkdf2_md5$1000$salt$${sum}=`, 'unknown_format'],
    [`$argon2id$v=19$m=8,t=1,p=2$${salt}$${sum}`, 'unknown_format'],
    [`$argon2id$v=19$m=1024,t=0,p=2$${salt}$${sum}`, 'unknown_format'],
    ['$2b$17$latchkeylatchkeylatchuLbDC7WjqJUx8KxhMti0bacip7nFXkJ6', 'too_costly'],
    ['bcrypt_sha256$$2b$31$latchkeylatchkeylatchuLbDC7WjqJUx8KxhMti0bacip7nFXkJ6', 'too_costly'],
    ['$bcrypt-sha256$v=2,t=2b,r=31$3goBFmAugEqi2UNn0bGP0O$2InLfkMt5scFlcv4Z1uTQJ/othLPcwW', 'too_costly'],
    [`$argon2id$v=19$m=4294967295,t=2,p=1$${salt}$${sum}`, 'too_costly'],
    [`argon2$argon2i$v=19$m=512,t=4294967295,p=2$${salt}$${sum}`, 'too_costly'],
    [`$argon2id$v=19$m=512,t=2,p=64$${salt}$${sum}`, 'too_costly'],
    [`$scrypt$ln=99,r=8,p=1$${salt}$${sum}`, 'too_costly'],
    [`scrypt$67108864$salt$8$1$${sum}=`, 'too_costly'],
    [`scrypt:16384:8:4096$salt$${hex}`, 'too_costly'],
    [`$pbkdf2-sha256$5000001$${salt}$${sum}`, 'too_costly'],
    [`pbkdf2_sha1$2500001$salt$${sum}=`, 'too_costly'],
    [`pbkdf2:sha256:9999999999$salt$${hex}`, 'too_costly'],
    [`$scrypt$ln=4,r=8,p=1$${salt}$AAAA`, 'too_short'],
    [`$pbkdf2-sha256$1000$${salt}$A`, 'too_short'],
    ['pbkdf2:sha256:1000$salt$abab', 'too_short'],
    [`$argon2id$v=19$m=1024,t=2,p=2$${salt}$AAAA`, 'too_short'],
    [`lk1:0123456789abcdef:$2b$05$${'a'.repeat(53)}`, 'other_secret'],
    ['lk1:nonsense', 'other_secret'],
    ['foreign:v1.0123456789abcdef.AAAA', 'other_secret'],
    ['foreign:$2b$05$NW4l.WU7oa.qUTnTSuX3b.qdZ0sjOTop8qCSwVaQ/iB20mBSKXGDm', 'other_secret'],
  ];

  test('what a login could never check, or at no price that we pay, is refused with the reason', () => {
    const keyring = createKeyring([newSecret()]);
    for (const [hash, fault] of refused) assert.deepEqual(adoptHash(keyring, hash, firebase), { fault }, hash);
  });

  test('a hash from Firebase is refused without the parameters, with others, and where they ask for too much', () => {
    const keyring = createKeyring([newSecret()]);
    const { hash } = firebaseVector;
    assert.deepEqual(adoptHash(keyring, hash, undefined), { fault: 'needs_firebase_parameters' });
    assert.ok(firebase);
    const shorter = { ...firebase, signerKey: firebase.signerKey.subarray(1) };
    assert.deepEqual(adoptHash(keyring, hash, shorter), { fault: 'unknown_format' });
    assert.deepEqual(adoptHash(keyring, hash, { ...firebase, memoryCost: 30 }), { fault: 'too_costly' });
  });
});
