import assert from 'node:assert/strict';
import { createHmac, createPublicKey } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { type TestContext, test } from 'node:test';
import {
  type CryptoKey,
  createLocalJWKSet,
  decodeJwt,
  decodeProtectedHeader,
  EncryptJWT,
  exportJWK,
  generateKeyPair,
  importJWK,
  type JSONWebKeySet,
  type JWTPayload,
  jwtVerify,
} from 'jose';
import { unseal } from '../src/crypto/secrets.ts';
import { newEmail, openSession, proveAddress, readMe, registerUser, type TestUser } from './accounts.ts';
import { assertProblem, assertRefused, call, type Reply } from './client.ts';
import { describeOnBackends, type System } from './system.ts';

const issuer = 'http://latchkey.test';
const invalidTokenChallenge =
  'Bearer realm="latchkey", error="invalid_token", error_description="The access token is not valid"';

type Header = Record<string, unknown>;
type Parts = { header: Header; payload: JWTPayload; text: [string, string, string]; signature: Buffer };

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

function takeApart(token: string): Parts {
  const [header = '', payload = '', signature = ''] = token.split('.');
  return {
    header: decodeProtectedHeader(token) as Header,
    payload: decodeJwt(token),
    text: [header, payload, signature],
    signature: Buffer.from(signature, 'base64url'),
  };
}

async function signEs256(key: CryptoKey, header: Header, payload: unknown): Promise<string> {
  const input = `${encode(header)}.${encode(payload)}`;
  const signature = await crypto.subtle.sign({ name: 'ECDSA', hash: 'SHA-256' }, key, Buffer.from(input));
  return `${input}.${Buffer.from(signature).toString('base64url')}`;
}

/** Signs another header or payload with the service's own key: what only a confused service would do. */
function resign(system: System, parts: Parts, header: Header = {}, payload: Header = {}): Promise<string> {
  const { privateKey } = system.deps.signingKeys.active();
  return signEs256(privateKey, { ...parts.header, ...header }, { ...parts.payload, ...payload });
}

function signHs256(secret: string | Buffer, header: Header, payload: unknown): string {
  const input = `${encode(header)}.${encode(payload)}`;
  return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`;
}

/** The DER form of a signature (RFC 3279 section 2.2.3), which JWS does not use. */
function toDer(signature: Buffer): Buffer {
  const integers = [signature.subarray(0, 32), signature.subarray(32)].map((bytes) => {
    const unsigned = (bytes[0] ?? 0) > 127 ? Buffer.concat([Buffer.of(0), bytes]) : bytes;
    return Buffer.concat([Buffer.of(2, unsigned.length), unsigned]);
  });
  const body = Buffer.concat(integers);
  return Buffer.concat([Buffer.of(0x30, body.length), body]);
}

async function readJwks(system: System): Promise<Reply> {
  const reply = await call(system, { method: 'GET', path: '/.well-known/jwks.json' });
  assert.equal(reply.status, 200);
  return reply;
}

async function refuseEach(t: TestContext, system: System, user: TestUser, tokens: Record<string, string>) {
  for (const [what, token] of Object.entries(tokens)) {
    await t.test(what, async () => {
      const reply = await assertRefused(system, { method: 'GET', path: '/users/me', token }, 'invalid_token');
      assert.equal(reply.headers['www-authenticate'], invalidTokenChallenge);
      assert.equal(reply.headers['cache-control'], 'no-store');
    });
  }
  // That the genuine token works shows that what was refused above was refused for what differs.
  assert.equal((await readMe(system, user.accessToken)).body.id, user.id);
}

type Tokens = Record<string, string>;

/** Forgeries by somebody who has the public keys and a genuine token, and no private key. */
async function forgeWithoutKey(system: System, parts: Parts, elsewhere: string): Promise<Tokens> {
  const jwks = (await readJwks(system)).body as JSONWebKeySet;
  return {
    ...forgeHs256(jwks, parts),
    ...forgeAlgorithms(parts),
    ...(await forgeKeys(jwks, parts, elsewhere)),
    ...forgeSignatures(parts),
    ...forgeContents(parts),
  };
}

function findJwk({ keys }: JSONWebKeySet, { header }: Parts): JSONWebKeySet['keys'][number] {
  const jwk = keys.find((key) => key.kid === header.kid);
  assert.ok(jwk);
  return jwk;
}

/** The public key as the secret of an HMAC, in every form that a confused verifier might hold it. */
function forgeHs256(jwks: JSONWebKeySet, parts: Parts): Tokens {
  const { header, payload } = parts;
  const jwk = findJwk(jwks, parts);
  const publicKey = createPublicKey({ key: { ...jwk } as never, format: 'jwk' });
  const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString();
  const der = publicKey.export({ type: 'spki', format: 'der' });
  const point = Buffer.concat([jwk.x ?? '', jwk.y ?? ''].map((part) => Buffer.from(part, 'base64url')));
  const { kid: _kid, alg: _alg, use: _use, ...bareJwk } = jwk;
  const secrets: Record<string, string | Buffer> = {
    PEM: pem,
    'PEM without its last line end': pem.trim(),
    DER: der,
    'base64 of DER': der.toString('base64'),
    'the JWK as served': JSON.stringify(jwk),
    'the bare JWK': JSON.stringify(bareJwk),
    'the JWK Set': JSON.stringify(jwks),
    'the raw point': point,
    'the uncompressed point': Buffer.concat([Buffer.of(4), point]),
    'its x coordinate': jwk.x ?? '',
    'an empty secret': '',
    kid: String(header.kid),
  };
  const tokens: Tokens = {};
  for (const [name, secret] of Object.entries(secrets)) {
    tokens[`HS256 over the public key: ${name}`] = signHs256(secret, { ...header, alg: 'HS256' }, payload);
  }
  return tokens;
}

function forgeAlgorithms({ header, text }: Parts): Tokens {
  const tokens: Tokens = {};
  for (const alg of ['none', 'None', 'NONE', 'nOnE', '', null, undefined, ['none'], 'HS256', 'ES384', 'es256']) {
    const unsigned = `${encode({ ...header, alg })}.${text[1]}.`;
    tokens[`alg ${JSON.stringify(alg)} without a signature`] = unsigned;
    tokens[`alg ${JSON.stringify(alg)} with the signature of a genuine token`] = unsigned + text[2];
  }
  return tokens;
}

/** Tokens that bring or name a key of their own, and one that is encrypted to ours. */
async function forgeKeys(jwks: JSONWebKeySet, parts: Parts, elsewhere: string): Promise<Tokens> {
  const { header, payload } = parts;
  const { alg: _alg, use: _use, ...jwk } = findJwk(jwks, parts);
  const foreign = await generateKeyPair('ES256', { extractable: true });
  const foreignJwk = await exportJWK(foreign.publicKey);
  const headers: Record<string, Header> = {
    'our kid': {},
    'a jwk header': { jwk: foreignJwk },
    'a jwk header without kid': { jwk: foreignJwk, kid: undefined },
    'a jwk header and a kid of its own': { jwk: { ...foreignJwk, kid: 'mine' }, kid: 'mine' },
    jku: { jku: elsewhere, kid: 'mine' },
    'jku and our kid': { jku: elsewhere },
    x5u: { x5u: elsewhere },
    x5c: { x5c: [foreignJwk.x] },
  };
  const tokens: Tokens = {};
  for (const [name, extra] of Object.entries(headers)) {
    tokens[`a foreign key pair with ${name}`] = await signEs256(foreign.privateKey, { ...header, ...extra }, payload);
  }
  tokens['a JWE to our public key'] = await new EncryptJWT(payload)
    .setProtectedHeader({ alg: 'ECDH-ES', enc: 'A256GCM', typ: 'at+jwt', kid: String(header.kid) })
    .encrypt(await importJWK(jwk, 'ECDH-ES'));
  return tokens;
}

function forgeSignatures({ text, signature }: Parts): Tokens {
  const unsigned = `${text[0]}.${text[1]}`;
  const flip = (index: number) => Buffer.from(signature.map((byte, at) => (at === index ? byte ^ 1 : byte)));
  const signatures: Record<string, Buffer> = {
    'in DER': toDer(signature),
    'of zeros': Buffer.alloc(64),
    'without its last byte': signature.subarray(0, 63),
    'of its first half': signature.subarray(0, 32),
    'with a byte more': Buffer.concat([signature, Buffer.of(0)]),
    'with its halves exchanged': Buffer.concat([signature.subarray(32), signature.subarray(0, 32)]),
    'with its first byte changed': flip(0),
    'with a byte in the middle changed': flip(32),
    'with its last byte changed': flip(63),
  };
  const tokens: Tokens = { 'no signature': unsigned, 'an empty signature': `${unsigned}.` };
  for (const [name, bytes] of Object.entries(signatures)) {
    tokens[`a signature ${name}`] = `${unsigned}.${bytes.toString('base64url')}`;
  }
  tokens['a signature without its last character'] = `${unsigned}.${text[2].slice(0, -1)}`;
  return tokens;
}

function forgeContents({ header, payload, text }: Parts): Tokens {
  const genuine = text.join('.');
  return {
    'a payload of more permissions': [text[0], encode({ ...payload, permissions: ['*'] }), text[2]].join('.'),
    'a payload without exp': [text[0], encode({ ...payload, exp: undefined }), text[2]].join('.'),
    'a header with another member': [encode({ ...header, cty: 'JWT' }), text[1], text[2]].join('.'),
    'the genuine token twice': `${genuine}.${genuine}`,
    'a token of 9,000 characters': genuine.padEnd(9_000, 'A'),
  };
}

describeOnBackends('access tokens for other services', {}, (system) => {
  test('jose verifies the token of a registration with the served JWKS and finds exactly the claims', async () => {
    const user = await registerUser(system());
    const jwks = (await readJwks(system())).body as JSONWebKeySet;
    const currentDate = new Date(system().clock.now());
    const expected = { algorithms: ['ES256'], typ: 'at+jwt', issuer, audience: issuer, currentDate };
    const { payload, protectedHeader } = await jwtVerify(user.accessToken, createLocalJWKSet(jwks), expected);
    const { kid, ...header } = protectedHeader;
    assert.deepEqual(header, { alg: 'ES256', typ: 'at+jwt' });
    assert.ok(jwks.keys.some((key) => key.kid === kid));
    const sessions = await system().deps.db.selectFrom('sessions').selectAll().where('user_id', '=', user.id).execute();
    const { jti, ...claims } = payload;
    assert.match(jti ?? '', /^[0-9a-f-]{36}$/);
    const issuedAt = Math.floor(system().clock.now() / 1000);
    assert.deepEqual(claims, {
      iss: issuer,
      aud: issuer,
      sub: user.id,
      sid: sessions[0]?.id,
      client_id: 'latchkey',
      iat: issuedAt,
      exp: issuedAt + 1800,
      auth_time: issuedAt,
      roles: ['user'],
      permissions: [],
    });
  });

  test('the JWKS shows a next and an active key, public members only, for anyone to keep for a while', async () => {
    const reply = await readJwks(system());
    assert.match(reply.headers['cache-control'] ?? '', /^public, max-age=[1-9]\d*$/);
    assert.match(reply.headers['content-type'] ?? '', /^application\/(?:jwk-set\+)?json\b/);
    const { keys } = reply.body as JSONWebKeySet;
    for (const key of keys) {
      assert.deepEqual(Object.keys(key).sort(), ['alg', 'crv', 'kid', 'kty', 'use', 'x', 'y']);
      assert.deepEqual([key.kty, key.crv, key.alg, key.use], ['EC', 'P-256', 'ES256', 'sig']);
    }
    assert.equal(new Set(keys.map((key) => key.x)).size, 2);
    const rows = await system().deps.db.selectFrom('signing_keys').select(['kid', 'state']).execute();
    assert.deepEqual(rows.map((row) => row.state).sort(), ['active', 'next']);
    assert.deepEqual(keys.map((key) => key.kid).sort(), rows.map((row) => row.kid).sort());
    const { accessToken } = await registerUser(system());
    const signer = rows.find((row) => row.kid === decodeProtectedHeader(accessToken).kid);
    assert.equal(signer?.state, 'active');
  });

  test('the private keys are in the database sealed and nowhere else', async () => {
    const { text } = await readJwks(system());
    const rows = await system().deps.db.selectFrom('signing_keys').selectAll().execute();
    assert.equal(rows.length, 2);
    for (const row of rows) {
      const opened = unseal(system().deps.keyring, row.sealed_private_jwk, `signing_keys/${row.kid}`);
      const { d } = JSON.parse(opened) as { d: string };
      assert.match(d, /^[A-Za-z0-9_-]{43}$/);
      const stored = JSON.stringify(row);
      const sealedBytes = Buffer.from(row.sealed_private_jwk.split('.')[2] ?? '', 'base64url');
      assert.ok(!stored.includes(d) && !text.includes(d));
      assert.ok(!stored.includes('\\"d\\"') && !sealedBytes.includes('"d"'));
    }
  });
});

describeOnBackends('forged access tokens', {}, (system) => {
  test('what was not signed with our key is refused, and no key is fetched from anywhere', async (t) => {
    const user = await registerUser(system());
    let fetches = 0;
    const elsewhere = createServer((_request, response) => {
      fetches += 1;
      response.end('{"keys":[]}');
    });
    elsewhere.listen(0, '127.0.0.1');
    await once(elsewhere, 'listening');
    t.after(() => elsewhere.close());
    const url = `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}/jwks.json`;
    await refuseEach(t, system(), user, await forgeWithoutKey(system(), takeApart(user.accessToken), url));
    assert.equal(fetches, 0);
  });

  test('a header that is not exactly ours is refused, even when our key signed it', async (t) => {
    const user = await registerUser(system());
    const parts = takeApart(user.accessToken);
    assert.equal((await readMe(system(), await resign(system(), parts))).status, 200, 'the way of signing is right');
    const rows = await system().deps.db.selectFrom('signing_keys').select(['kid', 'state']).execute();
    const nextKid = rows.find((row) => row.state === 'next')?.kid;
    assert.ok(nextKid);
    const headers: Record<string, Header> = { 'the kid of another of our keys': { kid: nextKid } };
    const kid = String(parts.header.kid);
    const paths = ['../../../../dev/null', '/dev/null', 'file:///dev/null', `./${kid}`, `${kid}/`];
    const injections = [`${kid}' OR '1'='1`, "x' UNION SELECT public_jwk FROM signing_keys --", '; DROP TABLE users'];
    const near = ['', 'unknown', kid.toUpperCase(), kid.slice(1), ` ${kid}`, `${kid}\0`, '__proto__', 'constructor'];
    const otherTypes = [undefined, null, 0, true, [kid], { kid }];
    for (const wrong of [...paths, ...injections, ...near, ...otherTypes]) {
      headers[`kid ${JSON.stringify(wrong)}`] = { kid: wrong };
    }
    const types = [undefined, null, '', 'JWT', 'jwt', 'application/jwt', 'id+jwt', 'at+jwt ', 'xat+jwt', 'text/at+jwt'];
    for (const typ of [...types, 1, ['at+jwt']]) headers[`typ ${JSON.stringify(typ)}`] = { typ };
    for (const alg of [undefined, null, '', 'none', 'es256', 'ES384', 'ES256K', 'HS256', ['ES256']]) {
      headers[`alg ${JSON.stringify(alg)}`] = { alg };
    }
    headers['an unknown critical extension'] = { crit: ['x'], x: 1 };
    headers['a critical exp'] = { crit: ['exp'], exp: parts.payload.exp };
    headers['an empty crit'] = { crit: [] };
    headers['a crit that is no list'] = { crit: 'b64' };
    headers['b64 false, which RFC 7797 section 7 forbids in a JWT'] = { crit: ['b64'], b64: false };
    const tokens: Record<string, string> = {};
    for (const [what, header] of Object.entries(headers)) tokens[what] = await resign(system(), parts, header);
    await refuseEach(t, system(), user, tokens);
  });

  // RFC 9068 section 4 allows the long form, and RFC 7515 section 4.1.9 with RFC 2045 any case.
  test('the type of an access token is accepted in any spelling of the media type', async () => {
    const parts = takeApart((await registerUser(system())).accessToken);
    for (const typ of ['at+jwt', 'AT+JWT', 'At+Jwt', 'application/at+jwt', 'Application/AT+JWT']) {
      assert.equal((await readMe(system(), await resign(system(), parts, { typ }))).status, 200, typ);
    }
  });

  test('claims that are not those of a live token are refused, even when our key signed them', async (t) => {
    const user = await registerUser(system());
    const parts = takeApart(user.accessToken);
    const nowSeconds = Math.floor(system().clock.now() / 1000);
    const { sid } = parts.payload as { sid: string };
    const claims: Record<string, Header> = {
      'an id token': { aud: 'latchkey', nonce: 'n', at_hash: 'x', email: user.email, sid: undefined },
      'an exp that is text': { exp: String(nowSeconds + 60) },
      'an exp that is now': { exp: nowSeconds },
      'an exp in the past': { exp: nowSeconds - 1 },
      'an exp of zero': { exp: 0 },
      'an nbf in the future': { nbf: nowSeconds + 1 },
      'an nbf that is text': { nbf: 'now' },
      'a sub that is a list': { sub: [user.id] },
      'a sid that is a list': { sid: [sid] },
      'an unknown sub': { sub: sid },
      'an unknown sid': { sid: user.id },
      'a sid with SQL': { sid: `${sid}' OR '1'='1` },
      'an empty aud': { aud: [] },
      'an aud in capitals': { aud: issuer.toUpperCase() },
      'an aud that only begins alike': { aud: `${issuer}.example.com` },
      'the aud of another service': { aud: ['http://other.test'] },
      'an iss with a slash': { iss: `${issuer}/` },
      'the iss of another service': { iss: 'http://other.test' },
      'an iss that is a list': { iss: [issuer] },
    };
    for (const claim of ['iss', 'aud', 'sub', 'sid', 'exp', 'iat', 'jti'])
      claims[`no ${claim}`] = { [claim]: undefined };
    const tokens: Record<string, string> = {};
    for (const [what, payload] of Object.entries(claims)) tokens[what] = await resign(system(), parts, {}, payload);
    await refuseEach(t, system(), user, tokens);
  });

  test('a genuine signature opens no session that belongs to another user', async (t) => {
    const [ada, eve] = [await registerUser(system()), await registerUser(system())];
    const [ofAda, ofEve] = [takeApart(ada.accessToken).payload, takeApart(eve.accessToken).payload];
    const { accessTokens } = system().deps;
    const subject = { authenticatedAtSeconds: ofAda.iat ?? 0, roles: ['admin'], permissions: ['users:read'] };
    const sign = (userId: string, sessionId: unknown) =>
      accessTokens.sign({ ...subject, userId, sessionId: String(sessionId) });
    await refuseEach(t, system(), ada, {
      'her id with my session': await sign(ada.id, ofEve.sid),
      'my id with her session': await sign(eve.id, ofAda.sid),
      'a session for a user': await sign(String(ofAda.sid), ofAda.sid),
    });
    const swapped = await sign(eve.id, ofAda.sid);
    const reply = await call(system(), { method: 'POST', path: '/auth/logout', token: swapped });
    assert.equal(reply.status, 204);
    for (const user of [ada, eve]) assert.equal((await readMe(system(), user.accessToken)).status, 200);
  });

  test('a forged token changes no profile, deletes no account and ends no session', async () => {
    const user = await registerUser(system(), { name: 'Ada' });
    const { header, payload, text } = takeApart(user.accessToken);
    const foreign = await generateKeyPair('ES256');
    const token = await signEs256(foreign.privateKey, header, payload);
    for (const forged of [token, `${encode({ ...header, alg: 'none' })}.${text[1]}.`]) {
      const request = { path: '/users/me', token: forged };
      await assertRefused(system(), { ...request, method: 'PATCH', body: { name: 'Eve' } }, 'invalid_token');
      await assertRefused(system(), { ...request, method: 'DELETE' }, 'invalid_token');
      await assertRefused(system(), { method: 'POST', path: '/auth/logout', token: forged }, 'invalid_token');
    }
    const me = await readMe(system(), user.accessToken);
    assert.deepEqual([me.status, me.body.name], [200, 'Ada']);
  });
});

describeOnBackends('how an access token is presented', {}, (system) => {
  const me = { method: 'GET', path: '/users/me' } as const;

  test('the name of the scheme is accepted in any case and with any number of spaces', async () => {
    const { accessToken } = await registerUser(system());
    for (const scheme of ['Bearer', 'bearer', 'BEARER', 'bEaReR', 'Bearer  ']) {
      const reply = await call(system(), { ...me, headers: { authorization: `${scheme} ${accessToken}` } });
      assert.equal(reply.status, 200, scheme);
    }
  });

  test('a header that is not one bearer token is refused', async (t) => {
    const { accessToken } = await registerUser(system());
    const invalid = ['Bearer', 'Bearer ', 'Bearer "', `Bearer${accessToken}`, `Bearer\t${accessToken}`, accessToken];
    invalid.push(`Bearer ${accessToken} ${accessToken}`, `Bearer ${accessToken},Bearer ${accessToken}`);
    invalid.push(`Bearer ${accessToken}, Bearer ${accessToken}`, `Bearer Bearer ${accessToken}`);
    invalid.push(`Bearer "${accessToken}"`, `Bearer token=${accessToken}`, `Bearer ${accessToken};`);
    for (const authorization of invalid) {
      await t.test(authorization.replaceAll(accessToken, '<token>'), async () => {
        const reply = await assertRefused(system(), { ...me, headers: { authorization } }, 'invalid_token');
        assert.equal(reply.headers['www-authenticate'], invalidTokenChallenge);
      });
    }
    // Another scheme opens nothing; which of the two codes for 401 says so is not the matter here.
    const encoded = Buffer.from(`user:${accessToken}`).toString('base64');
    for (const authorization of [
      `Basic ${encoded}`,
      `Basic ${accessToken}`,
      `DPoP ${accessToken}`,
      `Token ${accessToken}`,
    ]) {
      assert.equal((await call(system(), { ...me, headers: { authorization } })).status, 401, authorization);
    }
  });

  test('a request without a token is told to authenticate, without an error code (RFC 6750 section 3)', async () => {
    const { accessToken } = await registerUser(system());
    const elsewhere = [
      me,
      { ...me, headers: { authorization: '' } },
      { ...me, path: `/users/me?access_token=${accessToken}` },
    ];
    const inCookie = { ...me, headers: { cookie: `access_token=${accessToken}`, 'x-access-token': accessToken } };
    for (const request of [...elsewhere, inCookie]) {
      const reply = await assertRefused(system(), request, 'authentication_required');
      assert.equal(reply.headers['www-authenticate'], 'Bearer realm="latchkey"');
    }
  });

  test('a token in the query is ignored, also beside a good one in the header', async () => {
    const [ada, eve] = [await registerUser(system()), await registerUser(system())];
    const path = `/users/me?access_token=${eve.accessToken}`;
    const reply = await call(system(), { ...me, path, token: ada.accessToken });
    assert.deepEqual([reply.status, reply.body.id], [200, ada.id]);
  });

  test('tokens of other kinds are no access tokens', async (t) => {
    const user = await registerUser(system());
    await refuseEach(t, system(), user, {
      'a refresh token': user.refreshToken,
      'a verification token': await proveAddress(system(), newEmail(), 'registration'),
      'a session id': String(decodeJwt(user.accessToken).sid),
    });
  });

  test('a genuine token in a second header does not rescue a forged one in the first', async () => {
    const { accessToken } = await registerUser(system());
    const forged = `${accessToken.slice(0, -20)}${'A'.repeat(20)}`;
    assert.match(await requestOverSocket(system(), [accessToken]), /^HTTP\/1\.1 200 /);
    assert.match(await requestOverSocket(system(), [forged, accessToken]), /^HTTP\/1\.1 40[01] /);
  });
});

describeOnBackends('access tokens that were good a moment ago', {}, (system) => {
  test('a token used before is refused once it has expired by the clock', async () => {
    const [used, unused] = [await registerUser(system()), await registerUser(system())];
    system().clock.advanceSeconds(1799);
    for (const _use of [1, 2]) assert.equal((await readMe(system(), used.accessToken)).status, 200);
    // Tokens live in whole seconds; the second in which this one was made may have begun before it.
    system().clock.advanceSeconds(1);
    for (const { accessToken } of [used, used, unused]) {
      const reply = await readMe(system(), accessToken);
      assertProblem(reply, 'invalid_token');
      assert.equal(reply.headers['www-authenticate'], invalidTokenChallenge);
    }
  });

  test('a token used before is refused after the logout of its session, and of no other', async () => {
    const user = await registerUser(system());
    const [byRefreshToken, byAccessToken] = [await openSession(system(), user), await openSession(system(), user)];
    const ended = [byRefreshToken, byAccessToken];
    for (const { accessToken } of [...ended, ...ended]) assert.equal((await readMe(system(), accessToken)).status, 200);
    const body = { refresh_token: byRefreshToken.refreshToken };
    const logout = { method: 'POST', path: '/auth/logout' } as const;
    assert.equal((await call(system(), { ...logout, body })).status, 204);
    assert.equal((await call(system(), { ...logout, token: byAccessToken.accessToken })).status, 204);
    for (const { accessToken: token } of ended)
      await assertRefused(system(), { method: 'GET', path: '/users/me', token }, 'invalid_token');
    assert.equal((await readMe(system(), user.accessToken)).status, 200);
  });

  test('a token used before is refused once its user is gone', async () => {
    const [ada, eve] = [await registerUser(system()), await registerUser(system())];
    for (const { accessToken } of [ada, eve]) assert.equal((await readMe(system(), accessToken)).status, 200);
    assert.equal((await call(system(), { method: 'DELETE', path: '/users/me', token: ada.accessToken })).status, 204);
    await assertRefused(system(), { method: 'GET', path: '/users/me', token: ada.accessToken }, 'invalid_token');
    assert.equal((await readMe(system(), eve.accessToken)).status, 200);
  });
});

/** Sends one request with several Authorization headers, which only a raw socket can, and returns the reply. */
async function requestOverSocket({ app }: System, tokens: string[]): Promise<string> {
  if (!app.server.listening) await app.listen({ host: '127.0.0.1', port: 0 });
  const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1');
  const headers = tokens.map((token) => `Authorization: Bearer ${token}\r\n`).join('');
  socket.write(`GET /users/me HTTP/1.1\r\nHost: latchkey.test\r\nConnection: close\r\n${headers}\r\n`);
  let reply = '';
  for await (const chunk of socket) reply += String(chunk);
  return reply;
}
