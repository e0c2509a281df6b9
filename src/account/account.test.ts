import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  budgetSpent,
  logIn,
  newEmail,
  openSession,
  proveAddress,
  readMe,
  refresh,
  registerUser,
  sendCode,
} from '../../test/accounts.ts';
import { assertProblem, assertRefused, type Call, call } from '../../test/client.ts';
import { describeOnBackends } from '../../test/system.ts';

describeOnBackends('account', {}, (system) => {
  function patch(token: string, body: unknown): Call {
    return { method: 'PATCH', path: '/users/me', token, body };
  }

  function remove(token: string): Call {
    return { method: 'DELETE', path: '/users/me', token };
  }

  test('one’s own account is read with an access token and with nothing else', async () => {
    const user = await registerUser(system());
    const reply = await readMe(system(), user.accessToken);
    assert.equal(reply.status, 200);
    assert.equal(reply.body.email, user.email);
    assert.equal(reply.headers['cache-control'], 'no-store');
    await assertRefused(system(), { method: 'GET', path: '/users/me' }, 'authentication_required');
    for (const token of [user.refreshToken, 'x', `${user.accessToken}x`]) {
      await assertRefused(system(), { method: 'GET', path: '/users/me', token }, 'invalid_token');
    }
  });

  test('a change touches what was sent and leaves the rest', async () => {
    const user = await registerUser(system(), { name: 'Ada', locale: 'en', metadata: { a: 1 } });
    system().clock.advanceSeconds(5);
    const renamed = await call(system(), patch(user.accessToken, { name: 'Ada Lovelace' }));
    assert.equal(renamed.status, 200);
    const { name, locale, metadata, updated_at: updatedAt } = renamed.body;
    assert.deepEqual({ name, locale, metadata }, { name: 'Ada Lovelace', locale: 'en', metadata: { a: 1 } });
    assert.equal(updatedAt, new Date(system().clock.now()).toISOString());
    const cleared = await call(system(), patch(user.accessToken, { name: null, locale: null, metadata: { b: [2] } }));
    assert.deepEqual([cleared.body.name, cleared.body.locale, cleared.body.metadata], [null, null, { b: [2] }]);
    assert.deepEqual((await readMe(system(), user.accessToken)).body, cleared.body);
  });

  test('nobody changes their address, status, roles or id through their profile', async () => {
    const user = await registerUser(system());
    for (const [field, value] of Object.entries({ email: newEmail(), status: 'disabled', roles: ['admin'], id: 'x' })) {
      const errors = [{ path: `/${field}`, message: 'is not a known field' }];
      await assertRefused(system(), patch(user.accessToken, { [field]: value }), 'validation_failed', { errors });
    }
  });

  test('deletion removes everything and leaves audit events with the id alone', async () => {
    const user = await registerUser(system(), { name: 'Ada' });
    const other = await openSession(system(), user);
    assert.equal((await call(system(), remove(user.accessToken))).status, 204);
    for (const token of [user.accessToken, other.accessToken]) {
      assertProblem(await readMe(system(), token), 'invalid_token');
    }
    assertProblem(await refresh(system(), other.refreshToken), 'invalid_refresh_token');
    assertProblem(await logIn(system(), user.email, user.password), 'invalid_credentials');
    const { db } = system().deps;
    assert.deepEqual(await db.selectFrom('users').select('id').where('id', '=', user.id).execute(), []);
    assert.deepEqual(await db.selectFrom('sessions').select('id').where('user_id', '=', user.id).execute(), []);
    assert.deepEqual(await db.selectFrom('user_roles').selectAll().where('user_id', '=', user.id).execute(), []);
    const events = await db.selectFrom('audit_events').selectAll().where('user_id', '=', user.id).execute();
    assert.ok(events.some((event) => event.type === 'user.deleted'));
    for (const event of events) {
      assert.deepEqual([event.client_address, event.user_agent, event.details], [null, null, '{}']);
    }
  });

  test('deletion needs a recent authentication', async () => {
    const user = await registerUser(system());
    system().clock.advanceSeconds(301);
    const reply = await assertRefused(system(), remove(user.accessToken), 'insufficient_user_authentication', {
      max_age: 300,
    });
    assert.match(reply.headers['www-authenticate'] ?? '', /error="insufficient_user_authentication".*max_age="300"/);
    const fresh = await openSession(system(), user);
    assert.equal((await call(system(), remove(fresh.accessToken))).status, 204);
  });

  test('a refresh does not make an authentication recent', async () => {
    const user = await registerUser(system());
    system().clock.advanceSeconds(301);
    const refreshed = await refresh(system(), user.refreshToken);
    const request = remove(refreshed.body.access_token);
    await assertRefused(system(), request, 'insufficient_user_authentication', { max_age: 300 });
  });

  test('a new account at the address of a deleted one is a new one with nothing inherited', async () => {
    const user = await registerUser(system(), { name: 'Ada', metadata: { plan: 'paid' } });
    system().clock.advanceSeconds(61);
    const pendingLogin = await proveAddress(system(), user.email, 'login');
    await call(system(), remove(user.accessToken));
    system().clock.advanceSeconds(61);
    const successor = await registerUser(system(), { email: user.email });
    assert.notEqual(successor.id, user.id);
    const { body } = await readMe(system(), successor.accessToken);
    assert.deepEqual([body.name, body.metadata], [null, {}]);
    const request: Call = { method: 'POST', path: '/auth/login/code', body: { verification_token: pendingLogin } };
    await assertRefused(system(), request, 'invalid_verification_token');
    assertProblem(await readMe(system(), user.accessToken), 'invalid_token');
  });

  test('deletion does not give the address a new budget of mails', async () => {
    const user = await registerUser(system());
    await call(system(), remove(user.accessToken));
    assertProblem(await sendCode(system(), user.email, 'registration'), 'too_many_requests', budgetSpent);
  });
});
