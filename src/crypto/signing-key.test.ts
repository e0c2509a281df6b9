import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { exportJWK, jwtVerify, SignJWT } from 'jose';
import { idPattern } from './ids.ts';
import { createKeyring, unseal } from './secrets.ts';
import { generateSigningKey, importPublicKey, openPrivateKey, signingAlgorithm } from './signing-key.ts';

function newKeyring() {
  return createKeyring([newSecret()]);
}

function newSecret(): string {
  return randomBytes(48).toString('base64');
}

describe('signing keys', () => {
  test('the public part has the members of a P-256 signature key and nothing else', async () => {
    const { kid, publicJwk } = await generateSigningKey(newKeyring());
    assert.match(kid, new RegExp(`^${idPattern}$`));
    const { x, y, ...rest } = publicJwk;
    assert.deepEqual(rest, { kty: 'EC', crv: 'P-256', kid, alg: 'ES256', use: 'sig' });
    for (const coordinate of [x, y]) assert.match(coordinate, /^[A-Za-z0-9_-]{43}$/);
  });

  test('no two keys share an id or a point', async () => {
    const keyring = newKeyring();
    const keys = await Promise.all(Array.from({ length: 20 }, () => generateSigningKey(keyring)));
    assert.equal(new Set(keys.map(({ kid }) => kid)).size, 20);
    assert.equal(new Set(keys.map(({ publicJwk }) => publicJwk.x)).size, 20);
  });

  test('what the private key signs, the public key verifies, and no other does', async () => {
    const keyring = newKeyring();
    const [key, other] = [await generateSigningKey(keyring), await generateSigningKey(keyring)];
    const privateKey = await openPrivateKey(keyring, key);
    const token = await new SignJWT({ a: 1 }).setProtectedHeader({ alg: signingAlgorithm }).sign(privateKey);
    const { payload } = await jwtVerify(token, await importPublicKey(key.publicJwk));
    assert.deepEqual(payload, { a: 1 });
    await assert.rejects(jwtVerify(token, await importPublicKey(other.publicJwk)), /signature verification failed/);
  });

  test('the private part is stored sealed and belongs to the public part', async () => {
    const keyring = newKeyring();
    const { kid, publicJwk, sealedPrivateJwk } = await generateSigningKey(keyring);
    const opened = JSON.parse(unseal(keyring, sealedPrivateJwk, `signing_keys/${kid}`)) as Record<string, string>;
    assert.deepEqual(Object.keys(opened).sort(), ['crv', 'd', 'kty', 'x', 'y']);
    assert.deepEqual([opened.x, opened.y], [publicJwk.x, publicJwk.y]);
    assert.ok(opened.d);
    const bytes = Buffer.from(sealedPrivateJwk.split('.')[2] ?? '', 'base64url');
    for (const telling of ['"d"', opened.d, 'P-256']) {
      assert.ok(!sealedPrivateJwk.includes(telling) && !bytes.includes(telling), telling);
    }
  });

  test('an opened private key signs and can be neither exported nor used for anything else', async () => {
    const keyring = newKeyring();
    const privateKey = await openPrivateKey(keyring, await generateSigningKey(keyring));
    assert.deepEqual([privateKey.type, privateKey.extractable, privateKey.usages], ['private', false, ['sign']]);
    await assert.rejects(exportJWK(privateKey));
    await assert.rejects(crypto.subtle.exportKey('pkcs8', privateKey));
  });

  test('a public key verifies only', async () => {
    const publicKey = await importPublicKey((await generateSigningKey(newKeyring())).publicJwk);
    assert.deepEqual([publicKey.type, publicKey.usages], ['public', ['verify']]);
  });

  test('a private part does not open under the id of another key or under another secret', async () => {
    const keyring = newKeyring();
    const [key, other] = [await generateSigningKey(keyring), await generateSigningKey(keyring)];
    await assert.rejects(openPrivateKey(keyring, { ...key, sealedPrivateJwk: other.sealedPrivateJwk }));
    await assert.rejects(openPrivateKey(keyring, { ...key, kid: other.kid }));
    await assert.rejects(openPrivateKey(newKeyring(), key), /is not configured/);
  });

  test('a key outlives the rotation of the secret while the old one is configured', async () => {
    const [older, newer] = [newSecret(), newSecret()];
    const key = await generateSigningKey(createKeyring([older]));
    assert.equal((await openPrivateKey(createKeyring([newer, older]), key)).type, 'private');
    await assert.rejects(openPrivateKey(createKeyring([newer]), key), /is not configured/);
  });

  test('a point that is not on the curve is not imported', async () => {
    const { publicJwk } = await generateSigningKey(newKeyring());
    await assert.rejects(importPublicKey({ ...publicJwk, y: publicJwk.x }));
    await assert.rejects(importPublicKey({ ...publicJwk, x: 'A'.repeat(43), y: 'A'.repeat(43) }));
  });
});
