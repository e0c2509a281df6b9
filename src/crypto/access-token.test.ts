import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { type CryptoKey, decodeJwt, decodeProtectedHeader, generateKeyPair } from 'jose';
import { type AccessTokenSubject, createAccessTokens } from './access-token.ts';
import { idPattern, newId } from './ids.ts';
import { createKeyring } from './secrets.ts';
import { generateSigningKey, importPublicKey, openPrivateKey } from './signing-key.ts';

const issuer = 'https://auth.example.com';
const audience = 'https://api.example.com';
const ttlSeconds = 600;
const startMs = Date.UTC(2030, 0, 1, 12, 0, 0, 250);
const startSeconds = Math.floor(startMs / 1000);

/** A service with two keys, of which the first signs, and a clock and a key table that a test may change. */
async function startTokens(options: { maxVerified?: number } = {}) {
  const keyring = createKeyring([randomBytes(48).toString('base64')]);
  const [active, next] = [await generateSigningKey(keyring), await generateSigningKey(keyring)];
  const privateKey = await openPrivateKey(keyring, active);
  const nextPrivateKey = await openPrivateKey(keyring, next);
  const publicKeys = new Map<string, CryptoKey>();
  for (const key of [active, next]) publicKeys.set(key.kid, await importPublicKey(key.publicJwk));
  const signer = { kid: active.kid, privateKey };
  const state = { nowMs: startMs, lookUps: 0, signatureChecks: 0, signer };
  const find = (kid: string) => {
    state.lookUps += 1;
    return publicKeys.get(kid);
  };
  const keys = {
    freshen: () => undefined,
    active: () => state.signer,
    find,
    findAnew: async (kid: string) => {
      state.signatureChecks += 1;
      return find(kid);
    },
  };
  const tokens = createAccessTokens({ issuer, audience, ttlSeconds, now: () => state.nowMs, keys, ...options });
  return { tokens, state, publicKeys, signer, nextSigner: { kid: next.kid, privateKey: nextPrivateKey } };
}

function newSubject(): AccessTokenSubject {
  return {
    userId: newId(),
    sessionId: newId(),
    authenticatedAtSeconds: startSeconds - 60,
    roles: ['admin', 'user'],
    permissions: ['users:read'],
  };
}

function claimsOf({ userId, sessionId }: AccessTokenSubject) {
  return { userId, sessionId, expiresAtSeconds: startSeconds + ttlSeconds };
}

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

async function signParts(privateKey: CryptoKey, header: string, payload: string): Promise<string> {
  const algorithm = { name: 'ECDSA', hash: 'SHA-256' };
  const signature = await crypto.subtle.sign(algorithm, privateKey, Buffer.from(`${header}.${payload}`));
  return `${header}.${payload}.${Buffer.from(signature).toString('base64url')}`;
}

test('of verified tokens, the one that was not used for longest is forgotten first', async () => {
  const { tokens, state } = await startTokens({ maxVerified: 2 });
  const [often, seldom, late] = await Promise.all([1, 2, 3].map(() => tokens.sign(newSubject())));
  const checksFor = async (token = '') => {
    const before = state.signatureChecks;
    assert.ok(await tokens.verify(token));
    return state.signatureChecks - before;
  };
  assert.equal(await checksFor(often), 1);
  assert.equal(await checksFor(seldom), 1);
  assert.equal(await checksFor(often), 0);
  assert.equal(await checksFor(late), 1);
  assert.equal(await checksFor(often), 0, 'the one in use is still known');
  assert.equal(await checksFor(seldom), 1, 'the other has made room');
});

describe('minting access tokens', () => {
  test('a token has exactly the header and claims of the profile, times from the clock', async () => {
    const { tokens, signer } = await startTokens();
    const subject = newSubject();
    const token = await tokens.sign(subject);
    assert.deepEqual(decodeProtectedHeader(token), { alg: 'ES256', typ: 'at+jwt', kid: signer.kid });
    const { jti, ...claims } = decodeJwt(token);
    assert.match(jti ?? '', new RegExp(`^${idPattern}$`));
    assert.deepEqual(claims, {
      iss: issuer,
      aud: audience,
      sub: subject.userId,
      sid: subject.sessionId,
      client_id: 'latchkey',
      iat: startSeconds,
      exp: startSeconds + ttlSeconds,
      auth_time: subject.authenticatedAtSeconds,
      roles: ['admin', 'user'],
      permissions: ['users:read'],
    });
    assert.equal(tokens.ttlSeconds, ttlSeconds);
  });

  test('no two tokens share a jti', async () => {
    const { tokens } = await startTokens();
    const subject = newSubject();
    const minted = await Promise.all(Array.from({ length: 20 }, () => tokens.sign(subject)));
    assert.equal(new Set(minted.map((token) => decodeJwt(token).jti)).size, 20);
  });

  test('what is minted is verified, and says whose and for how long', async () => {
    const { tokens } = await startTokens();
    const subject = newSubject();
    const { userId, sessionId, expiresAtSeconds } = (await tokens.verify(await tokens.sign(subject))) ?? {};
    assert.deepEqual({ userId, sessionId, expiresAtSeconds }, claimsOf(subject));
  });

  test('after a rotation the new key signs and tokens of the old one are still verified', async () => {
    const { tokens, state, nextSigner } = await startTokens();
    const before = await tokens.sign(newSubject());
    state.signer = nextSigner;
    const after = await tokens.sign(newSubject());
    assert.equal(decodeProtectedHeader(after).kid, nextSigner.kid);
    assert.ok(await tokens.verify(before));
    assert.ok(await tokens.verify(after));
  });
});

describe('verifying access tokens', () => {
  test('a token is good to its last millisecond and not one longer, whether or not it was seen before', async () => {
    const { tokens, state } = await startTokens();
    const [seen, unseenEarly, unseenLate] = [newSubject(), newSubject(), newSubject()];
    const [a, b, c] = await Promise.all([tokens.sign(seen), tokens.sign(unseenEarly), tokens.sign(unseenLate)]);
    assert.ok(await tokens.verify(a));
    state.nowMs = (startSeconds + ttlSeconds) * 1000 - 1;
    assert.ok(await tokens.verify(a));
    assert.ok(await tokens.verify(b));
    state.nowMs += 1;
    for (const token of [a, b, c]) assert.equal(await tokens.verify(token), undefined);
    // Refused again: an expired token is not remembered as anything.
    for (const token of [a, b, c]) assert.equal(await tokens.verify(token), undefined);
  });

  test('a token that was verified before is refused as soon as its key is no longer found', async () => {
    const { tokens, publicKeys, signer, state, nextSigner } = await startTokens();
    const token = await tokens.sign(newSubject());
    state.signer = nextSigner;
    const ofOtherKey = await tokens.sign(newSubject());
    for (const minted of [token, token, ofOtherKey]) assert.ok(await tokens.verify(minted));
    publicKeys.delete(signer.kid);
    for (const _again of [1, 2]) assert.equal(await tokens.verify(token), undefined);
    assert.ok(await tokens.verify(ofOtherKey), 'tokens of other keys are not touched');
  });

  test('the key is looked up on every use by exactly the kid of the header', async () => {
    const { tokens, state } = await startTokens();
    const token = await tokens.sign(newSubject());
    for (const use of [1, 2, 3]) {
      assert.ok(await tokens.verify(token));
      assert.equal(state.lookUps, use);
    }
  });

  test('a token seen before is not taken for one that differs in a single character', async () => {
    const { tokens } = await startTokens();
    const token = await tokens.sign(newSubject());
    assert.ok(await tokens.verify(token));
    // Not the last character: four of its six bits are padding and stand for no part of the signature.
    for (let place = 0; place < token.length - 1; place += 1) {
      const replacement = token[place] === 'A' ? 'B' : 'A';
      const forged = token.slice(0, place) + replacement + token.slice(place + 1);
      assert.equal(await tokens.verify(forged), undefined, `character ${place}`);
    }
  });

  test('a token with any bit of its signature flipped is refused', async () => {
    const { tokens } = await startTokens();
    const token = await tokens.sign(newSubject());
    const [header, payload, encoded] = token.split('.');
    const signature = Buffer.from(encoded ?? '', 'base64url');
    assert.equal(signature.length, 64);
    for (let bit = 0; bit < 512; bit += 1) {
      const forged = Buffer.from(signature);
      forged.writeUInt8(forged.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
      assert.equal(
        await tokens.verify(`${header}.${payload}.${forged.toString('base64url')}`),
        undefined,
        `bit ${bit}`,
      );
    }
    assert.ok(await tokens.verify(token));
  });

  test('a token cut short at any place is refused', async () => {
    const { tokens } = await startTokens();
    const token = await tokens.sign(newSubject());
    for (let length = 0; length < token.length; length += 1) {
      assert.equal(await tokens.verify(token.slice(0, length)), undefined, `${length} characters`);
    }
  });

  test('a token of another service with the same secret names is refused', async () => {
    const [ours, theirs] = [await startTokens(), await startTokens()];
    const token = await theirs.tokens.sign(newSubject());
    assert.equal(await ours.tokens.verify(token), undefined);
    const foreign = await generateKeyPair('ES256');
    theirs.state.signer = { kid: ours.signer.kid, privateKey: foreign.privateKey };
    assert.equal(await ours.tokens.verify(await theirs.tokens.sign(newSubject())), undefined);
  });

  test('a token for another issuer or audience is refused, though the key is the same', async () => {
    const { tokens, signer, publicKeys } = await startTokens();
    const find = (kid: string) => publicKeys.get(kid);
    const keys = { freshen: () => undefined, active: () => signer, find, findAnew: async (kid: string) => find(kid) };
    const now = () => startMs;
    for (const other of [{ issuer: `${issuer}/` }, { issuer: 'https://AUTH.example.com' }, { audience: issuer }]) {
      const elsewhere = createAccessTokens({ issuer, audience, ttlSeconds, now, keys, ...other });
      const token = await elsewhere.sign(newSubject());
      assert.ok(await elsewhere.verify(token));
      assert.equal(await tokens.verify(token), undefined, JSON.stringify(other));
    }
  });

  test('what is signed by our key and is not a token of ours is refused and throws nothing', async () => {
    const { tokens, signer } = await startTokens();
    const header = { alg: 'ES256', typ: 'at+jwt', kid: signer.kid };
    const payload = decodeJwt(await tokens.sign(newSubject()));
    const control = await signParts(signer.privateKey, encode(header), encode(payload));
    assert.ok(await tokens.verify(control), 'the way of signing here is right');
    const payloads: unknown[] = [null, 1, 'text', [], [payload], { ...payload, exp: '1' }, { ...payload, iat: 'now' }];
    for (const claim of ['iss', 'aud', 'sub', 'sid', 'exp', 'iat', 'jti']) {
      payloads.push({ ...payload, [claim]: undefined });
    }
    for (const claim of ['iss', 'aud', 'sub', 'sid', 'exp', 'iat']) {
      payloads.push({ ...payload, [claim]: null }, { ...payload, [claim]: {} });
    }
    for (const candidate of payloads) {
      const token = await signParts(signer.privateKey, encode(header), encode(candidate));
      assert.equal(await tokens.verify(token), undefined, JSON.stringify(candidate));
    }
    const notJson = ['', '!', Buffer.from('{').toString('base64url'), Buffer.of(0xff, 0xfe).toString('base64url')];
    for (const part of notJson) {
      assert.equal(await tokens.verify(await signParts(signer.privateKey, part, encode(payload))), undefined);
      assert.equal(await tokens.verify(await signParts(signer.privateKey, encode(header), part)), undefined);
    }
  });

  test('text that is no token at all is refused and throws nothing', async () => {
    const { tokens } = await startTokens();
    for (const text of ['', '.', '..', '...', 'a.b.c', 'null', '\0', '\u{1f600}', 'e30.e30.', 'x'.repeat(100_000)]) {
      assert.equal(await tokens.verify(text), undefined, JSON.stringify(text.slice(0, 20)));
    }
  });

  test('a token longer than 8,192 characters is neither made nor read', async () => {
    const { tokens, state } = await startTokens();
    await assert.rejects(tokens.sign({ ...newSubject(), permissions: ['x'.repeat(7_000)] }), /do not fit/);
    const long = `${(await tokens.sign(newSubject())).replace('.', `.${'A'.repeat(8_192)}`)}`;
    assert.equal(await tokens.verify(long), undefined);
    assert.equal(state.lookUps, 0);
  });

  test('a signature has one spelling: unused bits and padding are refused', async () => {
    const { tokens } = await startTokens();
    const token = await tokens.sign(newSubject());
    const last = token.at(-1) ?? '';
    const neighbour = { A: 'B', Q: 'R', g: 'h', w: 'x' }[last] ?? '';
    for (const other of [token.slice(0, -1) + neighbour, `${token}==`, `${token}=`]) {
      assert.equal(await tokens.verify(other), undefined);
    }
    assert.notEqual(await tokens.verify(token), undefined);
  });
});
