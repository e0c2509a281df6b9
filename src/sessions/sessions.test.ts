import assert from 'node:assert/strict';
import { test } from 'node:test';
import { disableUser, openSession, readMe, refresh, registerUser, subjectsOfMails } from '../../test/accounts.ts';
import { assertProblem, assertRefused, type Call, call, takeStock } from '../../test/client.ts';
import { testRaces } from '../../test/races/races.ts';
import { sessionRaces } from '../../test/races/sessions.ts';
import { describeOnBackends } from '../../test/system.ts';

const day = 24 * 60 * 60;

describeOnBackends('sessions', {}, (system) => {
  function refreshCall(refresh_token: string): Call {
    return { method: 'POST', path: '/auth/refresh', body: { refresh_token } };
  }

  async function refreshOk(token: string) {
    const reply = await refresh(system(), token);
    assert.equal(reply.status, 200, reply.text);
    return reply.body;
  }

  test('a refresh gives the next refresh token and a new access token of the same session', async () => {
    const user = await registerUser(system());
    system().clock.advanceSeconds(60);
    const reply = await refresh(system(), user.refreshToken);
    assert.equal(reply.status, 200);
    assert.equal(reply.headers['cache-control'], 'no-store');
    assert.notEqual(reply.body.refresh_token, user.refreshToken);
    assert.equal(reply.body.refresh_token_expires_in, 7 * day);
    assert.equal((await readMe(system(), reply.body.access_token)).body.id, user.id);
    assert.equal((await refresh(system(), reply.body.refresh_token)).status, 200);
  });

  test('the token just replaced gets the same successor again within the grace', async () => {
    const user = await registerUser(system());
    const first = await refreshOk(user.refreshToken);
    system().clock.advanceSeconds(29);
    const again = await refreshOk(user.refreshToken);
    assert.equal(again.refresh_token, first.refresh_token);
    assert.equal((await readMe(system(), again.access_token)).status, 200);
    assert.equal((await refresh(system(), first.refresh_token)).status, 200);
  });

  test('the token just replaced, presented after the grace, ends the session and tells the owner', async () => {
    const user = await registerUser(system());
    const first = await refreshOk(user.refreshToken);
    system().clock.advanceSeconds(30);
    assertProblem(await refresh(system(), user.refreshToken), 'refresh_token_reused');
    assertProblem(await refresh(system(), first.refresh_token), 'invalid_refresh_token');
    assertProblem(await readMe(system(), first.access_token), 'invalid_token');
    const [newest] = await subjectsOfMails(system(), user.email);
    assert.equal(newest, 'We ended one of your sessions');
    const query = system().deps.db.selectFrom('audit_events').select('type').where('user_id', '=', user.id);
    const types = (await query.execute()).map((event) => event.type);
    assert.equal(types.filter((type) => type === 'session.reuse_detected').length, 1);
  });

  test('a token older than the one just replaced ends the session at once', async () => {
    const user = await registerUser(system());
    const first = await refreshOk(user.refreshToken);
    const second = await refreshOk(first.refresh_token);
    assertProblem(await refresh(system(), user.refreshToken), 'refresh_token_reused');
    assertProblem(await refresh(system(), second.refresh_token), 'invalid_refresh_token');
  });

  test('theft ends the session that it happened to and no other', async () => {
    const user = await registerUser(system());
    const other = await openSession(system(), user);
    const first = await refreshOk(user.refreshToken);
    await refreshOk(first.refresh_token);
    assertProblem(await refresh(system(), user.refreshToken), 'refresh_token_reused');
    assert.equal((await readMe(system(), other.accessToken)).status, 200);
    assert.equal((await refresh(system(), other.refreshToken)).status, 200);
  });

  test('what is malformed or not genuine is refused and ends nobody’s session', async () => {
    const user = await registerUser(system());
    const [version, id, generation, mac] = user.refreshToken.split('.');
    const otherMac = `${mac?.startsWith('A') ? 'B' : 'A'}${mac?.slice(1)}`;
    const forged = [
      'x',
      `${version}.${id}.${generation}`,
      `v2.${id}.${generation}.${mac}`,
      `${version}.${id}.${generation}.${otherMac}`,
      `${version}.${id}.1.${mac}`,
      `${version}.${id}.00.${mac}`,
      `${version}.${id}.-1.${mac}`,
      `${version}.${id}.99999999999.${mac}`,
      `${version}.${id?.toUpperCase()}.${generation}.${mac}`,
      ` ${user.refreshToken}`,
      user.accessToken.slice(0, 128),
    ];
    for (const token of forged) await assertRefused(system(), refreshCall(token), 'invalid_refresh_token');
    assert.equal((await refresh(system(), user.refreshToken)).status, 200);
  });

  test('the idle life slides with every refresh', async () => {
    const user = await registerUser(system());
    system().clock.advanceSeconds(7 * day - 1);
    const first = await refreshOk(user.refreshToken);
    system().clock.advanceSeconds(7 * day - 1);
    const second = await refreshOk(first.refresh_token);
    system().clock.advanceSeconds(7 * day);
    await assertRefused(system(), refreshCall(second.refresh_token), 'invalid_refresh_token');
  });

  test('the absolute life does not slide, and no token outlives it', async () => {
    const user = await registerUser(system());
    let token = user.refreshToken;
    for (let refreshes = 0; refreshes < 5; refreshes += 1) {
      system().clock.advanceSeconds(5 * day);
      token = (await refreshOk(token)).refresh_token;
    }
    system().clock.advanceSeconds(4 * day);
    const last = await refreshOk(token);
    assert.equal(last.refresh_token_expires_in, day);
    system().clock.advanceSeconds(day);
    await assertRefused(system(), refreshCall(last.refresh_token), 'invalid_refresh_token');
  });

  test('a disabled user can neither refresh nor use an access token', async () => {
    const user = await registerUser(system());
    await disableUser(system(), user.id);
    await assertRefused(system(), refreshCall(user.refreshToken), 'invalid_refresh_token');
    const request = { method: 'GET', path: '/users/me', token: user.accessToken } as const;
    await assertRefused(system(), request, 'invalid_token');
  });

  testRaces(sessionRaces, system);

  test('logout by refresh token ends the session at once, for both kinds of token', async () => {
    const user = await registerUser(system());
    const other = await openSession(system(), user);
    const request: Call = { method: 'POST', path: '/auth/logout', body: { refresh_token: user.refreshToken } };
    assert.equal((await call(system(), request)).status, 204);
    assertProblem(await readMe(system(), user.accessToken), 'invalid_token');
    assertProblem(await refresh(system(), user.refreshToken), 'invalid_refresh_token');
    assert.equal((await readMe(system(), other.accessToken)).status, 200);
  });

  test('logout by access token and no body ends the session', async () => {
    const user = await registerUser(system());
    const request: Call = { method: 'POST', path: '/auth/logout', token: user.accessToken };
    assert.equal((await call(system(), request)).status, 204);
    assertProblem(await refresh(system(), user.refreshToken), 'invalid_refresh_token');
    assert.equal((await call(system(), request)).status, 204, 'logging out again is no error');
  });

  test('logout works with a token that was already replaced', async () => {
    const user = await registerUser(system());
    const first = await refreshOk(user.refreshToken);
    const request: Call = { method: 'POST', path: '/auth/logout', body: { refresh_token: user.refreshToken } };
    assert.equal((await call(system(), request)).status, 204);
    assertProblem(await refresh(system(), first.refresh_token), 'invalid_refresh_token');
  });

  test('logout answers 204 for what is no session, and ends nothing', async () => {
    const user = await registerUser(system());
    const [version, id, generation] = user.refreshToken.split('.');
    const before = await takeStock(system());
    for (const refresh_token of ['x', `${version}.${id}.${generation}.${'A'.repeat(43)}`]) {
      const reply = await call(system(), { method: 'POST', path: '/auth/logout', body: { refresh_token } });
      assert.equal(reply.status, 204);
    }
    assert.deepEqual(await takeStock(system()), before);
    assert.equal((await readMe(system(), user.accessToken)).status, 200);
  });

  test('logout without any token, or with a forged bearer, is refused', async () => {
    await assertRefused(system(), { method: 'POST', path: '/auth/logout' }, 'authentication_required');
    await assertRefused(system(), { method: 'POST', path: '/auth/logout', token: 'a.b.c' }, 'invalid_token');
  });
});

describeOnBackends('sessions without a grace', { REFRESH_REUSE_GRACE_SECONDS: '0' }, (system) => {
  test('the token just replaced ends the session at once', async () => {
    const user = await registerUser(system());
    const first = await refresh(system(), user.refreshToken);
    assertProblem(await refresh(system(), user.refreshToken), 'refresh_token_reused');
    assertProblem(await refresh(system(), first.body.refresh_token), 'invalid_refresh_token');
  });

  test('50 parallel refreshes give out at most one successor, and none survives the reuse', async () => {
    const user = await registerUser(system());
    const replies = await Promise.all(Array.from({ length: 50 }, () => refresh(system(), user.refreshToken)));
    const successors = replies.filter((reply) => reply.status === 200);
    assert.equal(successors.length, 1);
    assertProblem(await refresh(system(), successors[0]?.body.refresh_token), 'invalid_refresh_token');
  });
});
