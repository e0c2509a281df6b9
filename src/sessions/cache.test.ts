import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { openSession, readMe, refresh, registerUser } from '../../test/accounts.ts';
import { assertProblem, call } from '../../test/client.ts';
import {
  cacheKey,
  fillCache,
  listSessions,
  ok,
  raceReadsAgainstLogouts,
  sessionEndings,
  sessionId,
} from '../../test/session-endings.ts';
import { backends, type System, startPeer, startSystem } from '../../test/system.ts';
import { sessionCacheLifeMs } from '../ephemeral/session-cache.ts';

const rounds = 300;

// The pair of back ends that has a cache: SQLite is in the process, and quicker than any question to another one.
describe('the session cache', { skip: !backends.includes('postgres+redis') }, () => {
  let here: System;
  let there: System;

  before(async () => {
    here = await startSystem('postgres+redis', { SESSIONS_PER_USER_MAX: '3' });
    there = await startPeer(here);
  });
  after(async () => {
    await there?.close();
    await here?.close();
  });

  test('serves a session that any instance has read without asking the database', async () => {
    const user = await registerUser(here);
    await fillCache(here, user);
    // Behind the service's back, so that only the cache can still know the session.
    await here.deps.db.deleteFrom('sessions').where('user_id', '=', user.id).execute();
    for (const instance of [here, there]) {
      assert.equal((await call(instance, listSessions(user))).status, 200);
    }
  });

  for (const [ending, end] of Object.entries(sessionEndings)) {
    test(`${ending} is effective on the other instance at once, and no late fill brings the session back`, async () => {
      const keeper = await registerUser(here);
      const user = await openSession(here, keeper);
      await fillCache(there, user);
      const entry = await here.deps.sessionCache?.read(user.id, sessionId(user));
      assert.ok(entry, 'it was cached');
      await end(here, user, keeper);
      for (const instance of [there, here]) assertProblem(await call(instance, listSessions(user)), 'invalid_token');
      // What an instance that had read the session before, and was slow, would now put in.
      await there.deps.sessionCache?.fill(user.id, sessionId(user), entry, performance.now());
      for (const instance of [there, here]) assertProblem(await call(instance, listSessions(user)), 'invalid_token');
    });
  }

  test(`${rounds} races of reading on one instance against logging out on the other leave nothing alive`, async () => {
    const keeper = await registerUser(here);
    await raceReadsAgainstLogouts(keeper, rounds, () => ({ here, there }));
  });

  test('a recent authentication is known to the other instance at once', async () => {
    const user = await registerUser(here);
    here.clock.advanceSeconds(301);
    await fillCache(there, user);
    const remove = { method: 'DELETE', path: '/users/me', token: user.accessToken } as const;
    assertProblem(await call(there, remove), 'insufficient_user_authentication', { max_age: 300 });
    const again = { method: 'POST', path: '/auth/reauthenticate', token: user.accessToken } as const;
    await ok(here, { ...again, body: { password: user.password } });
    await ok(there, remove);
  });

  test('a session that has expired is not served, and one that was refreshed goes on', async () => {
    const user = await registerUser(here);
    const { SESSION_IDLE_TTL_SECONDS } = here.deps.config.environment;
    here.clock.advanceSeconds(SESSION_IDLE_TTL_SECONDS - 60);
    const { body } = await refresh(here, user.refreshToken);
    const refreshed = { ...user, accessToken: body.access_token };
    await fillCache(there, refreshed);
    here.clock.advanceSeconds(61);
    assert.equal((await readMe(there, refreshed.accessToken)).status, 200, 'the refresh moved the end of the session');
  });

  test('an entry that was not made here, or for another session, is a miss', async () => {
    const [user, other] = [await registerUser(here), await registerUser(here)];
    await fillCache(here, other);
    const entry = (await here.deps.sessionCache?.read(other.id, sessionId(other))) ?? '';
    const forged = JSON.stringify({ principal: { userId: user.id, roles: ['admin'] }, liveUntilMs: 9e15 });
    for (const wrong of [entry, forged, '', `${entry}A`]) {
      await here.deps.sessionCache?.fill(user.id, sessionId(user), wrong, performance.now());
      const reply = await readMe(there, user.accessToken);
      assert.deepEqual([reply.status, reply.body.id], [200, user.id]);
    }
  });

  test('what took longer to read than an entry lives is not kept', async () => {
    const user = await registerUser(here);
    const { sessionCache } = here.deps;
    await sessionCache?.fill(user.id, sessionId(user), 'entry', performance.now() - sessionCacheLifeMs);
    assert.equal(await sessionCache?.read(user.id, sessionId(user)), undefined);
    await sessionCache?.fill(user.id, sessionId(user), 'entry', performance.now() - sessionCacheLifeMs / 2);
    assert.equal(await sessionCache?.read(user.id, sessionId(user)), 'entry');
    const key = { keys: [cacheKey(here.deps, user.id)], arguments: [] };
    const left = Number(await here.deps.redis?.eval("return redis.call('PTTL', KEYS[1])", key));
    assert.ok(left > 0 && left <= sessionCacheLifeMs / 2, `it goes in ${left} ms`);
  });
});
