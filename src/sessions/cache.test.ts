import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { sql } from 'kysely';
import { openSession, readMe, refresh, registerUser, type TestUser } from '../../test/accounts.ts';
import { administration, giveRole, makeRole, registerAdministrator } from '../../test/administrators.ts';
import { assertProblem, call, type Reply } from '../../test/client.ts';
import {
  cacheKey,
  fillCache,
  listSessions,
  ok,
  raceReadsAgainstLogouts,
  sessionEndings,
  sessionId,
  unblock,
  unblockAll,
} from '../../test/session-endings.ts';
import { backends, type System, startPeer, startSystem } from '../../test/system.ts';
import { howOften } from '../../test/thorough.ts';
import { sessionCacheLifeMs } from '../ephemeral/session-cache.ts';

const rounds = howOften({ brief: 100, thorough: 300 });

// The pair of back ends that has a cache: SQLite is in the process, and quicker than any question to another one.
describe('the session cache', { skip: !backends.includes('postgres+redis') }, () => {
  let here: System;
  let there: System;
  let admin: TestUser;

  before(async () => {
    here = await startSystem('postgres+redis', { SESSIONS_PER_USER_MAX: '3' });
    there = await startPeer(here);
    admin = await registerAdministrator(here);
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

  const changesOfRoles = {
    'a change of a role': (name: string) => administration(admin.accessToken).putRole(name, ['roles:read']),
    'the deletion of a role': (name: string) => administration(admin.accessToken).removeRole(name),
  };

  for (const [change, request] of Object.entries(changesOfRoles)) {
    test(`${change} is effective on the other instance at once for everybody who has it, also after a late fill`, async () => {
      const role = await makeRole(here, ['users:read']);
      const users = await Promise.all([registerUser(here), registerUser(here)]);
      const entries: string[] = [];
      for (const user of users) {
        await giveRole(here, user.id, role);
        await unblock(here, user.id);
        await fillCache(there, user);
        entries.push((await here.deps.sessionCache?.read(user.id, sessionId(user))) ?? '');
        assert.equal((await call(there, administration(user.accessToken).list('?limit=1'))).status, 200);
      }
      await ok(here, request(role));
      for (const instance of [there, here]) {
        for (const user of users) await requireRefusal(instance, user);
      }
      // What an instance that had read the roles before, and was slow, would now put in.
      for (const [index, user] of users.entries()) {
        await there.deps.sessionCache?.fill(user.id, sessionId(user), entries[index] ?? '', performance.now());
      }
      for (const instance of [there, here]) {
        for (const user of users) await requireRefusal(instance, user);
      }
      await unblockAll(here);
    });
  }

  test('what is read while a change of a role waits for its commit is not served after it', async () => {
    const { deps } = here;
    const role = await makeRole(here, ['users:read']);
    const user = await registerUser(here);
    await giveRole(here, user.id, role);
    await unblock(here, user.id);
    const list = administration(user.accessToken).list('?limit=1');
    let changed = Promise.resolve<Reply | undefined>(undefined);
    await deps.db.transaction().execute(async (tx) => {
      // Every act writes its event last.
      await sql`lock table audit_events in exclusive mode`.execute(tx);
      changed = call(here, changesOfRoles['a change of a role'](role));
      const giveUpAtMs = performance.now() + 5_000;
      while (!(await isBlocked())) assert.ok(performance.now() < giveUpAtMs, 'the change blocks nothing');
      for (let read = 0; read < 5; read += 1) {
        assert.equal((await call(there, list)).status, 200, 'it is not changed yet');
      }
    });
    assert.equal((await changed)?.status, 200);
    for (const instance of [there, here]) await requireRefusal(instance, user);
    await unblockAll(here);

    async function isBlocked(): Promise<boolean> {
      const key = { keys: [`${deps.redisPrefix}sessions-blocked`], arguments: [] };
      return (await deps.redis?.eval("return redis.call('EXISTS', KEYS[1])", key)) === 1;
    }
  });

  test('100 races of reading on one instance against a change of the role on the other serve nothing old after it', async () => {
    const role = await makeRole(here, []);
    const user = await registerUser(here);
    await giveRole(here, user.id, role);
    const { putRole } = administration(admin.accessToken);
    const list = administration(user.accessToken).list('?limit=1');
    for (let round = 0; round < 50; round += 1) {
      for (const permissions of [['users:read'], []]) {
        await unblock(here, user.id);
        await unblockAll(here);
        const reads = Array.from({ length: 3 }, () => call(there, list));
        await ok(here, putRole(role, permissions));
        assert.equal((await call(there, list)).status, permissions.length === 1 ? 200 : 403);
        await Promise.all(reads);
        assert.equal((await call(there, list)).status, permissions.length === 1 ? 200 : 403);
      }
    }
    await unblockAll(here);
  });

  async function requireRefusal(instance: System, user: TestUser): Promise<void> {
    const refusal = { detail: 'This needs users:read.' };
    assertProblem(await call(instance, administration(user.accessToken).list()), 'insufficient_permission', refusal);
  }

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
