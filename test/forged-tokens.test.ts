import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { decodeJwt, generateKeyPair } from 'jose';
import { newEmail, proveAddress, readMe, registerUser, type TestUser } from './accounts.ts';
import { assertRefused, call } from './client.ts';
import { encode, forgeWithoutKey, type Header, resign, signEs256, type Tokens, takeApart } from './hostile-tokens.ts';
import { describeOnBackends, type System } from './system.ts';

const issuer = 'http://latchkey.test';
const invalidTokenChallenge =
  'Bearer realm="latchkey", error="invalid_token", error_description="The access token is not valid"';

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
    const tokens: Tokens = {};
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
    const tokens: Tokens = {};
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

  test('tokens of other kinds are no access tokens', async (t) => {
    const user = await registerUser(system());
    await refuseEach(t, system(), user, {
      'a refresh token': user.refreshToken,
      'a verification token': await proveAddress(system(), newEmail(), 'registration'),
      'a session id': String(decodeJwt(user.accessToken).sid),
    });
  });
});

/** Each token is refused as invalid; the genuine one, used before and after, shows that it is for what differs. */
async function refuseEach(t: TestContext, system: System, user: TestUser, tokens: Tokens) {
  // The genuine token is used, and so remembered, before any that is like it.
  assert.equal((await readMe(system, user.accessToken)).body.id, user.id);
  for (const [what, token] of Object.entries(tokens)) {
    await t.test(what, async () => {
      const reply = await assertRefused(system, { method: 'GET', path: '/users/me', token }, 'invalid_token');
      assert.equal(reply.headers['www-authenticate'], invalidTokenChallenge);
      assert.equal(reply.headers['cache-control'], 'no-store');
    });
  }
  assert.equal((await readMe(system, user.accessToken)).body.id, user.id);
}
