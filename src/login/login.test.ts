import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hash as argon2Hash } from '@node-rs/argon2';
import { hash as bcryptHash } from '@node-rs/bcrypt';
import { goodPassword, logIn, newEmail, proveAddress, readMe, refresh, registerUser } from '../../test/accounts.ts';
import {
  assertProblem,
  assertRefused,
  assertRefusedAndRecorded,
  type Call,
  call,
  takeStock,
} from '../../test/client.ts';
import { loginRaces } from '../../test/races/logins.ts';
import { testRaces } from '../../test/races/races.ts';
import { describeOnBackends } from '../../test/system.ts';

describeOnBackends('login', {}, (system) => {
  async function change(userId: string, columns: { status?: 'active' | 'disabled'; password_hash?: string }) {
    await system().deps.db.updateTable('users').set(columns).where('id', '=', userId).execute();
  }

  async function readHash(userId: string): Promise<string> {
    const query = system().deps.db.selectFrom('users').select('password_hash').where('id', '=', userId);
    return (await query.executeTakeFirstOrThrow()).password_hash ?? '';
  }

  function codeLogin(verification_token: string): Call {
    return { method: 'POST', path: '/auth/login/code', body: { verification_token } };
  }

  test('the right password opens a session of its own', async () => {
    const user = await registerUser(system());
    system().clock.advanceSeconds(5);
    const reply = await logIn(system(), user.email, user.password);
    assert.equal(reply.status, 200);
    assert.equal(reply.headers['cache-control'], 'no-store');
    assert.equal(reply.body.user.id, user.id);
    assert.equal(reply.body.user.last_login_at, new Date(system().clock.now()).toISOString());
    assert.notEqual(reply.body.refresh_token, user.refreshToken);
    assert.equal((await readMe(system(), reply.body.access_token)).status, 200);
    assert.equal((await readMe(system(), user.accessToken)).status, 200);
  });

  test('the address may be typed in any case', async () => {
    const user = await registerUser(system());
    assert.equal((await logIn(system(), user.email.toUpperCase(), user.password)).status, 200);
  });

  test('wrong, unknown and disabled are refused alike, and only a failed login is recorded', async () => {
    const user = await registerUser(system());
    const disabled = await registerUser(system());
    await change(disabled.id, { status: 'disabled' });
    const attempts = [
      { email: user.email, password: 'not the password' },
      { email: newEmail(), password: goodPassword },
      { email: disabled.email, password: disabled.password },
    ];
    const seen = [];
    for (const { email, password } of attempts) {
      const before = await takeStock(system());
      const reply = await logIn(system(), email, password);
      assertProblem(reply, 'invalid_credentials');
      const after = await takeStock(system());
      assert.deepEqual(after, { ...before, audit_events: (before.audit_events ?? 0) + 1 });
      seen.push({ ...reply.headers, date: '' });
    }
    assert.deepEqual(seen[1], seen[0]);
    assert.deepEqual(seen[2], seen[0]);
  });

  test('a failed login is recorded without what was typed', async () => {
    const typed = newEmail();
    await logIn(system(), typed, 'typed in the wrong field');
    const events = await system().deps.db.selectFrom('audit_events').selectAll().execute();
    const failed = events.filter((event) => event.type === 'login.failed');
    assert.ok(failed.length > 0);
    assert.ok(!JSON.stringify(failed).includes(typed));
  });

  test('an account without a password refuses every password', async () => {
    const user = await registerUser(system());
    const query = system().deps.db.updateTable('users').set({ password_hash: null }).where('id', '=', user.id);
    await query.execute();
    assertProblem(await logIn(system(), user.email, user.password), 'invalid_credentials');
  });

  test('a hash brought from elsewhere logs its user in and is replaced by our own', async () => {
    const foreign = [
      await bcryptHash(goodPassword, { cost: 4, version: '2b' }),
      await bcryptHash(goodPassword, { cost: 4, version: '2y' }),
      await argon2Hash(goodPassword),
    ];
    for (const password_hash of foreign) {
      const user = await registerUser(system());
      await change(user.id, { password_hash });
      assertProblem(await logIn(system(), user.email, 'not the password'), 'invalid_credentials');
      assert.equal(await readHash(user.id), password_hash);
      assert.equal((await logIn(system(), user.email, goodPassword)).status, 200);
      assert.match(await readHash(user.id), /^lk1:[0-9a-f]{16}:\$2b\$04\$/);
      assert.equal((await logIn(system(), user.email, goodPassword)).status, 200);
    }
  });

  test('a password changed while it was being checked logs nobody in with the old one', async () => {
    const user = await registerUser(system());
    const newHash = await system().deps.passwords.hash('an entirely different one');
    const before = await takeStock(system());
    const [reply] = await Promise.all([
      logIn(system(), user.email, user.password),
      // The check of the old hash is under way in the pool when this lands.
      new Promise<void>((resolve) => setImmediate(resolve)).then(() => change(user.id, { password_hash: newHash })),
    ]);
    assertProblem(reply, 'invalid_credentials');
    assert.deepEqual((await takeStock(system())).sessions, before.sessions);
  });

  testRaces(loginRaces, system);

  test('a session over the cap ends the oldest one', async () => {
    const user = await registerUser(system());
    const tokens = [user.accessToken];
    for (let login = 0; login < 20; login += 1) {
      system().clock.advanceSeconds(1);
      tokens.push((await logIn(system(), user.email, user.password)).body.access_token);
    }
    const statuses = await Promise.all(tokens.map(async (token) => (await readMe(system(), token)).status));
    assert.deepEqual(statuses, [401, ...Array.from({ length: 20 }, () => 200)]);
  });

  test('an e-mailed code logs in, once', async () => {
    const user = await registerUser(system());
    system().clock.advanceSeconds(61);
    const token = await proveAddress(system(), user.email, 'login');
    const reply = await call(system(), codeLogin(token));
    assert.equal(reply.status, 200);
    assert.equal(reply.body.user.id, user.id);
    await assertRefused(system(), codeLogin(token), 'invalid_verification_token');
  });

  test('a proof for registration or a password reset does not log in', async () => {
    const user = await registerUser(system());
    for (const [purpose, email] of [
      ['password_reset', user.email],
      ['registration', newEmail()],
    ] as const) {
      system().clock.advanceSeconds(61);
      const token = await proveAddress(system(), email, purpose);
      await assertRefused(system(), codeLogin(token), 'invalid_verification_token');
    }
  });

  test('an account disabled after its code was sent does not log in with it', async () => {
    const user = await registerUser(system());
    system().clock.advanceSeconds(61);
    const token = await proveAddress(system(), user.email, 'login');
    await change(user.id, { status: 'disabled' });
    await assertRefusedAndRecorded(system(), codeLogin(token), 'invalid_verification_token', 'login.failed');
  });
});

describeOnBackends('the cap on sessions', { SESSIONS_PER_USER_MAX: '3' }, (system) => {
  test('a session that has expired takes nobody’s place', async () => {
    const user = await registerUser(system());
    // Two that nobody refreshes and that are not cleaned away yet, and the first one, kept alive.
    for (let login = 0; login < 2; login += 1) await logIn(system(), user.email, user.password);
    system().clock.advanceSeconds(6 * 24 * 3600);
    const kept = await refresh(system(), user.refreshToken);
    system().clock.advanceSeconds(2 * 24 * 3600);
    assert.equal((await logIn(system(), user.email, user.password)).status, 200);
    assert.equal((await refresh(system(), kept.body.refresh_token)).status, 200);
  });
});
