import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  disableUser,
  newEmail,
  openSession,
  proveAddress,
  readMe,
  refresh,
  registerUser,
  type TestUser,
} from '../../test/accounts.ts';
import { assertProblem, assertRefused, type Call, call, type Reply, takeStock } from '../../test/client.ts';
import { reauthenticationRaces } from '../../test/races/logins.ts';
import { testRaces } from '../../test/races/races.ts';
import { describeOnBackends, digestRows } from '../../test/system.ts';
import { reauthenticate } from './reauthentication.ts';

describeOnBackends('re-authentication', {}, (system) => {
  function ask(user: TestUser, body: unknown): Call {
    return { method: 'POST', path: '/auth/reauthenticate', token: user.accessToken, body };
  }

  function byCode(user: TestUser, verification_token: string): Call {
    return ask(user, { verification_token });
  }

  /** The operations that need a recent authentication. */
  function guarded(user: TestUser): Call[] {
    const token = user.accessToken;
    return [
      { method: 'GET', path: '/users/me/export', token },
      { method: 'POST', path: '/users/me/email', token, body: { email: newEmail() } },
      { method: 'DELETE', path: '/users/me', token },
    ];
  }

  async function assertStale(user: TestUser): Promise<void> {
    for (const request of guarded(user)) {
      await assertRefused(system(), request, 'insufficient_user_authentication', { max_age: 300 });
    }
  }

  /** A user whose authentication is no longer recent. */
  async function registerStaleUser(): Promise<TestUser> {
    const user = await registerUser(system());
    system().clock.advanceSeconds(301);
    return user;
  }

  async function prove(email: string, purpose = 'login'): Promise<string> {
    system().clock.advanceSeconds(61);
    return proveAddress(system(), email, purpose);
  }

  async function eventsOf(userId: string) {
    const query = system().deps.db.selectFrom('audit_events').select(['type', 'details']);
    return query
      .where('user_id', '=', userId)
      .where('type', 'in', ['session.reauthenticated', 'reauthentication.refused'])
      .execute();
  }

  /** A wrong password is recorded, and nothing else may come of it. */
  async function assertOneEvent(request: Call): Promise<Reply> {
    const before = await takeStock(system());
    const digest = await digestRows(system());
    const reply = await call(system(), request);
    assertProblem(reply, 'invalid_credentials');
    assert.deepEqual(await takeStock(system()), { ...before, audit_events: (before.audit_events ?? 0) + 1 });
    assert.equal(await digestRows(system()), digest);
    return reply;
  }

  test('after the password export, e-mail change and deletion work with the same access token', async () => {
    const user = await registerStaleUser();
    await assertStale(user);
    const reply = await call(system(), ask(user, { password: user.password }));
    assert.equal(reply.status, 204);
    assert.equal(reply.text, '');
    const statuses = [];
    for (const request of guarded(user)) statuses.push((await call(system(), request)).status);
    assert.deepEqual(statuses, [200, 202, 204]);
  });

  test('after an e-mailed code they work too', async () => {
    const user = await registerStaleUser();
    const proof = await prove(user.email);
    assert.equal((await call(system(), byCode(user, proof))).status, 204);
    const statuses = [];
    for (const request of guarded(user)) statuses.push((await call(system(), request)).status);
    assert.deepEqual(statuses, [200, 202, 204]);
  });

  test('it lasts five minutes and is true of this session alone', async () => {
    const user = await registerUser(system());
    const other = await openSession(system(), user);
    system().clock.advanceSeconds(301);
    assert.equal((await call(system(), ask(user, { password: user.password }))).status, 204);
    await assertStale(other);
    system().clock.advanceSeconds(300);
    const exportMe: Call = { method: 'GET', path: '/users/me/export', token: user.accessToken };
    assert.equal((await call(system(), exportMe)).status, 200);
    system().clock.advanceSeconds(1);
    await assertStale(user);
  });

  test('the next access token and the list of sessions say when it was', async () => {
    const user = await registerStaleUser();
    await call(system(), ask(user, { password: user.password }));
    const { body } = await refresh(system(), user.refreshToken);
    const claims = JSON.parse(Buffer.from(body.access_token.split('.')[1], 'base64url').toString());
    assert.equal(claims.auth_time, Math.floor(system().clock.now() / 1000));
    const list = await call(system(), { method: 'GET', path: '/users/me/sessions', token: body.access_token });
    assert.equal(list.body.items[0].authenticated_at, new Date(system().clock.now()).toISOString());
  });

  test('each is recorded with its method, and it moves no other time', async () => {
    const user = await registerStaleUser();
    const before = (await readMe(system(), user.accessToken)).body;
    await call(system(), ask(user, { password: user.password }));
    await call(system(), byCode(user, await prove(user.email)));
    const events = (await eventsOf(user.id)).map(({ type, details }) => ({ type, ...JSON.parse(details) }));
    assert.deepEqual(events.map(({ type, method }) => `${type} ${method}`).sort(), [
      'session.reauthenticated code',
      'session.reauthenticated password',
    ]);
    assert.deepEqual((await readMe(system(), user.accessToken)).body, before);
  });

  test('a wrong password is refused and recorded', async () => {
    const user = await registerStaleUser();
    await assertOneEvent(ask(user, { password: 'not the password' }));
    const [event] = await eventsOf(user.id);
    assert.deepEqual([event?.type, event?.details], ['reauthentication.refused', '{"attempt":"compared"}']);
    await assertStale(user);
    assert.equal((await readMe(system(), user.accessToken)).status, 200, 'the session goes on');
  });

  test('somebody else’s password, and any password where there is none, is a wrong one', async () => {
    const user = await registerStaleUser();
    const other = await registerUser(system(), { password: 'quiet lantern over the harbour' });
    await assertOneEvent(ask(user, { password: other.password }));
    const { db } = system().deps;
    await db.updateTable('users').set({ password_hash: null }).where('id', '=', user.id).execute();
    await assertOneEvent(ask(user, { password: user.password }));
  });

  test('a proof of another address is refused and left to its owner', async () => {
    const user = await registerStaleUser();
    const other = await registerStaleUser();
    const proof = await prove(other.email);
    await assertRefused(system(), byCode(user, proof), 'invalid_verification_token');
    assert.equal((await call(system(), byCode(other, proof))).status, 204);
  });

  test('a proof for another purpose, and what is no proof, is refused', async () => {
    const user = await registerStaleUser();
    const resetProof = await prove(user.email, 'password_reset');
    for (const token of [resetProof, 'x', `${'A'.repeat(22)}.${'A'.repeat(43)}`]) {
      await assertRefused(system(), byCode(user, token), 'invalid_verification_token');
    }
  });

  test('a proof works once, for a re-authentication or for a login', async () => {
    const user = await registerStaleUser();
    const proof = await prove(user.email);
    assert.equal((await call(system(), byCode(user, proof))).status, 204);
    await assertRefused(system(), byCode(user, proof), 'invalid_verification_token');
    const login: Call = { method: 'POST', path: '/auth/login/code', body: { verification_token: proof } };
    await assertRefused(system(), login, 'invalid_verification_token');
  });

  testRaces(reauthenticationRaces, system);

  test('a proof older than ten minutes is refused', async () => {
    const user = await registerStaleUser();
    const proof = await prove(user.email);
    system().clock.advanceSeconds(600);
    await assertRefused(system(), byCode(user, proof), 'invalid_verification_token');
  });

  test('both fields, neither, and an unknown one are refused', async () => {
    const user = await registerStaleUser();
    const both = { password: user.password, verification_token: await prove(user.email) };
    const bodies: [unknown, string, RegExp][] = [
      [both, '', /at most 1 field/],
      [{}, '', /at least 1 field/],
      [{ code: '7K3QZ9' }, '/code', /is not a known field/],
      [{ password: '' }, '/password', /fewer than 1/],
    ];
    for (const [body, path, message] of bodies) {
      const probe = await call(system(), ask(user, body));
      const [error] = probe.body.errors;
      assert.equal(error.path, path);
      assert.match(error.message, message);
      await assertRefused(system(), ask(user, body), 'validation_failed', { errors: probe.body.errors });
    }
    await assertStale(user);
    assert.equal(
      (await call(system(), byCode(user, both.verification_token))).status,
      204,
      'no refusal used the proof',
    );
  });

  test('it needs an access token of a session that is alive', async () => {
    const user = await registerUser(system());
    const request = ask(user, { password: user.password });
    const { token: _token, ...anonymous } = request;
    await assertRefused(system(), anonymous, 'authentication_required');
    await assertRefused(system(), { ...request, token: user.refreshToken }, 'invalid_token');
    await call(system(), { method: 'POST', path: '/auth/logout', token: user.accessToken });
    await assertRefused(system(), request, 'invalid_token');
  });

  test('a disabled user does not re-authenticate', async () => {
    const user = await registerStaleUser();
    const proof = await prove(user.email);
    await disableUser(system(), user.id);
    await assertRefused(system(), ask(user, { password: user.password }), 'invalid_token');
    await assertRefused(system(), byCode(user, proof), 'invalid_token');
  });

  test('what changes while a proof is being checked makes the check worth nothing', async () => {
    const { deps } = system();
    const hash = await deps.passwords.hash('quiet lantern over the harbour');
    const context = {
      requestId: '',
      clientAddress: '203.0.113.7',
      userAgent: null,
      signal: AbortSignal.timeout(60_000),
    };
    for (const columns of [{ password_hash: hash }, { status: 'disabled' as const }, { email: newEmail() }]) {
      const user = await registerStaleUser();
      const proof = await prove(user.email);
      const sessionId = user.refreshToken.split('.')[1] ?? '';
      const principal = { userId: user.id, sessionId, authenticatedAtMs: 0, roles: [], permissions: [] };
      const change = () => deps.db.updateTable('users').set(columns).where('id', '=', user.id).execute();
      const read = deps.db.selectFrom('sessions').select('authenticated_at').where('id', '=', sessionId);
      const before = await read.executeTakeFirst();
      // The check itself is the real one; the change lands when it is done and nothing came of it yet.
      const verify: typeof deps.passwords.verify = async (...checked) => {
        const check = await deps.passwords.verify(...checked);
        await change();
        return check;
      };
      const take: typeof deps.ephemeral.take = async (...taken) => {
        const payload = await deps.ephemeral.take(...taken);
        await change();
        return payload;
      };
      const slow = { ...deps, passwords: { ...deps.passwords, verify }, ephemeral: { ...deps.ephemeral, take } };
      const refused = { code: 'invalid_credentials' };
      const restore = { password_hash: await deps.passwords.hash(user.password), status: 'active' as const };
      await assert.rejects(reauthenticate(slow, principal, { password: user.password }, context), refused);
      await deps.db
        .updateTable('users')
        .set({ ...restore, email: user.email })
        .where('id', '=', user.id)
        .execute();
      const dead = { code: 'invalid_verification_token' };
      await assert.rejects(reauthenticate(slow, principal, { verificationToken: proof }, context), dead);
      assert.deepEqual(await read.executeTakeFirst(), before);
    }
  });
});
