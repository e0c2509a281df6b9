import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLocalJWKSet, decodeProtectedHeader, type JSONWebKeySet, jwtVerify } from 'jose';
import { unseal } from '../src/crypto/secrets.ts';
import { openSession, readMe, registerUser } from './accounts.ts';
import { assertProblem, assertRefused, call, type Reply } from './client.ts';
import { converse, host, parseReply } from './hostile-socket.ts';
import { describeOnBackends, type System } from './system.ts';

const issuer = 'http://latchkey.test';
const invalidTokenChallenge =
  'Bearer realm="latchkey", error="invalid_token", error_description="The access token is not valid"';

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

describeOnBackends('how an access token is presented', {}, (system) => {
  const me = { method: 'GET', path: '/users/me' } as const;

  test('the name of the scheme is accepted in any case and with any number of spaces', async () => {
    const { accessToken } = await registerUser(system());
    for (const scheme of ['Bearer', 'bearer', 'BEARER', 'bEaReR', 'Bearer  ']) {
      const reply = await call(system(), { ...me, headers: { authorization: `${scheme} ${accessToken}` } });
      assert.equal(reply.status, 200, scheme);
    }
  });

  test('a header of the scheme that does not hold one token is refused', async (t) => {
    const { accessToken } = await registerUser(system());
    const invalid = ['Bearer', 'Bearer ', 'Bearer "', 'Bearer=', 'Bearer,', `Bearer\t${accessToken}`];
    invalid.push(`Bearer ${accessToken} ${accessToken}`, `Bearer ${accessToken},Bearer ${accessToken}`);
    invalid.push(`Bearer ${accessToken}, Bearer ${accessToken}`, `Bearer Bearer ${accessToken}`);
    invalid.push(`Bearer "${accessToken}"`, `Bearer token=${accessToken}`, `Bearer ${accessToken};`);
    for (const authorization of invalid) {
      await t.test(authorization.replaceAll(accessToken, '<token>'), async () => {
        const reply = await assertRefused(system(), { ...me, headers: { authorization } }, 'invalid_token');
        assert.equal(reply.headers['www-authenticate'], invalidTokenChallenge);
      });
    }
  });

  test('no bearer token means authentication is required, without an error code (RFC 6750 section 3)', async (t) => {
    const { accessToken } = await registerUser(system());
    const encoded = Buffer.from(`user:${accessToken}`).toString('base64');
    const otherSchemes = ['Basic', 'DPoP', 'Token', 'Digest', 'MAC', 'Bearers', 'XBearer', 'Bearer_'];
    const headers = [
      ...otherSchemes.map((scheme) => `${scheme} ${accessToken}`),
      `Basic ${encoded}`,
      `Basic ${encoded}, Bearer ${accessToken}`,
      `Bearer${accessToken}`,
      accessToken,
      `access_token=${accessToken}`,
      `"Bearer ${accessToken}"`,
      '',
    ];
    const requests = {
      'no header': me,
      'a token in the query': { ...me, path: `/users/me?access_token=${accessToken}` },
      'a token in a cookie': { ...me, headers: { cookie: `access_token=${accessToken}` } },
      'a token in a header of its own': { ...me, headers: { 'x-access-token': accessToken } },
      'a token for a proxy': { ...me, headers: { 'proxy-authorization': `Bearer ${accessToken}` } },
      ...Object.fromEntries(headers.map((authorization) => [authorization, { ...me, headers: { authorization } }])),
    };
    for (const [what, request] of Object.entries(requests)) {
      await t.test(what.replaceAll(accessToken, '<token>') || 'an empty header', async () => {
        const reply = await assertRefused(system(), request, 'authentication_required');
        assert.equal(reply.headers['www-authenticate'], 'Bearer realm="latchkey"');
      });
    }
    assert.equal((await readMe(system(), accessToken)).status, 200);
  });

  test('a token in the query is ignored, also beside a good one in the header', async () => {
    const [ada, eve] = [await registerUser(system()), await registerUser(system())];
    const path = `/users/me?access_token=${eve.accessToken}`;
    const reply = await call(system(), { ...me, path, token: ada.accessToken });
    assert.deepEqual([reply.status, reply.body.id], [200, ada.id]);
  });

  test('two tokens in two headers are refused whichever is genuine, and end no session', async () => {
    const { accessToken } = await registerUser(system());
    const forged = `${accessToken.slice(0, -20)}${'A'.repeat(20)}`;
    const pairs = [
      [accessToken, accessToken],
      [accessToken, forged],
      [forged, accessToken],
      [accessToken, ''],
    ];
    for (const requestLine of ['GET /users/me HTTP/1.1', 'POST /auth/logout HTTP/1.1']) {
      for (const tokens of pairs) {
        const reply = await sendTokens(system(), requestLine, tokens);
        assertProblem(reply, 'invalid_token');
        assert.equal(reply.headers['www-authenticate'], invalidTokenChallenge);
      }
    }
    assert.equal((await sendTokens(system(), 'GET /users/me HTTP/1.1', [accessToken])).status, 200);
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

async function readJwks(system: System): Promise<Reply> {
  const reply = await call(system, { method: 'GET', path: '/.well-known/jwks.json' });
  assert.equal(reply.status, 200);
  return reply;
}

/** Sends one request with several Authorization headers, which only a raw socket can. */
async function sendTokens(system: System, requestLine: string, tokens: readonly string[]): Promise<Reply> {
  const headers = tokens.map((token) => `Authorization: Bearer ${token}`);
  const lines = [requestLine, host, 'Connection: close', ...headers];
  return parseReply(await converse(system, `${lines.join('\r\n')}\r\n\r\n`));
}
