import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  logIn,
  newEmail,
  newestMail,
  obtainCode,
  openSession,
  readMe,
  refresh,
  registerUser,
  sendCode,
  subjectsOfMails,
  type TestUser,
} from '../../test/accounts.ts';
import {
  assertProblem,
  assertRefused,
  assertRefusedAndRecorded,
  type Call,
  call,
  takeStock,
} from '../../test/client.ts';
import { eventsOf, newPassword, prove, reset, sessionsOf } from '../../test/password-reset.ts';
import { describeOnBackends } from '../../test/system.ts';

describeOnBackends('password reset', {}, (system) => {
  function verify(email: string, purpose: string, code: string): Call {
    return { method: 'POST', path: '/auth/verify-code', body: { email, purpose, code } };
  }

  function codeLogin(verification_token: string): Call {
    return { method: 'POST', path: '/auth/login/code', body: { verification_token } };
  }

  async function change(userId: string, columns: { status?: 'active' | 'disabled'; email?: string }) {
    await system().deps.db.updateTable('users').set(columns).where('id', '=', userId).execute();
  }

  async function beginEmailChange(user: TestUser, email: string): Promise<string> {
    const request: Call = { method: 'POST', path: '/users/me/email', token: user.accessToken, body: { email } };
    assert.equal((await call(system(), request)).status, 202);
    const mail = await newestMail(system(), email);
    const code = mail?.subject.slice(0, 6) ?? '';
    const proved = await call(system(), verify(email, 'email_change', code));
    assert.equal(proved.status, 200);
    return proved.body.verification_token;
  }

  test('the new password logs in, the old one does not, and nobody is logged in by the reset itself', async () => {
    const user = await registerUser(system());
    const reply = await call(system(), reset(await prove(system(), user.email)));
    assert.equal(reply.status, 204);
    assert.equal(reply.text, '');
    assert.equal(await sessionsOf(system(), user.id), 0);
    assertProblem(await logIn(system(), user.email, user.password), 'invalid_credentials');
    assert.equal((await logIn(system(), user.email, newPassword)).status, 200);
  });

  test('every session ends, with its access and its refresh token, and nobody else’s does', async () => {
    const user = await registerUser(system());
    const other = await openSession(system(), user);
    const stranger = await registerUser(system());
    assert.equal((await call(system(), reset(await prove(system(), user.email)))).status, 204);
    for (const { accessToken, refreshToken } of [user, other]) {
      assertProblem(await readMe(system(), accessToken), 'invalid_token');
      assertProblem(await refresh(system(), refreshToken), 'invalid_refresh_token');
    }
    assert.equal((await readMe(system(), stranger.accessToken)).status, 200);
    assert.equal((await logIn(system(), stranger.email, stranger.password)).status, 200);
  });

  test('the owner is told once, and one event is recorded', async () => {
    const user = await registerUser(system());
    const token = await prove(system(), user.email);
    const before = await takeStock(system());
    await call(system(), reset(token));
    const [newest] = await subjectsOfMails(system(), user.email);
    assert.equal(newest, 'Your password was reset');
    const after = await takeStock(system());
    assert.deepEqual([after.mails, after.audit_events], [before.mails + 1, (before.audit_events ?? 0) + 1]);
    const [event, ...more] = await eventsOf(system(), user.id, 'password.reset');
    assert.deepEqual(more, []);
    assert.deepEqual([event?.actor_id, event?.details], [user.id, '{"sessions_ended":1}']);
  });

  test('a login code and a login proof of the address die with the reset', async () => {
    const user = await registerUser(system());
    const loginProof = await prove(system(), user.email, 'login');
    const resetProof = await prove(system(), user.email);
    system().clock.advanceSeconds(61);
    const loginCode = await obtainCode(system(), user.email, 'login');
    assert.equal((await call(system(), reset(resetProof))).status, 204);
    await assertRefusedAndRecorded(system(), verify(user.email, 'login', loginCode), 'invalid_code', 'code.refused');
    await assertRefused(system(), codeLogin(loginProof), 'invalid_verification_token');
  });

  test('a second reset code that is on its way dies with the reset', async () => {
    const user = await registerUser(system());
    const proof = await prove(system(), user.email);
    system().clock.advanceSeconds(61);
    const second = await obtainCode(system(), user.email, 'password_reset');
    assert.equal((await call(system(), reset(proof))).status, 204);
    await assertRefusedAndRecorded(
      system(),
      verify(user.email, 'password_reset', second),
      'invalid_code',
      'code.refused',
    );
  });

  test('a newer proof of the same address replaces the one before', async () => {
    const user = await registerUser(system());
    const first = await prove(system(), user.email);
    const second = await prove(system(), user.email);
    await assertRefused(system(), reset(first), 'invalid_verification_token');
    assert.equal((await call(system(), reset(second))).status, 204);
  });

  test('a change of address that was under way is cancelled', async () => {
    const user = await registerUser(system());
    const proof = await beginEmailChange(user, newEmail());
    assert.equal((await call(system(), reset(await prove(system(), user.email)))).status, 204);
    const { body } = await logIn(system(), user.email, newPassword);
    const request: Call = {
      method: 'PUT',
      path: '/users/me/email',
      token: body.access_token,
      body: { verification_token: proof },
    };
    await assertRefused(system(), request, 'invalid_verification_token');
    assert.equal((await readMe(system(), body.access_token)).body.email, user.email);
  });

  test('a password change cancels a change of address that was under way', async () => {
    const user = await registerUser(system());
    const proof = await beginEmailChange(user, newEmail());
    const body = { current_password: user.password, new_password: newPassword };
    const { accessToken: token } = user;
    const changed = await call(system(), { method: 'PUT', path: '/users/me/password', token, body });
    assert.equal(changed.status, 204);
    const request: Call = { method: 'PUT', path: '/users/me/email', token, body: { verification_token: proof } };
    await assertRefused(system(), request, 'invalid_verification_token');
  });

  test('a rejected password costs nothing: the same token works with a better one', async () => {
    const user = await registerUser(system());
    const token = await prove(system(), user.email);
    const common = [{ path: '/new_password', message: 'is one of the most common passwords' }];
    await assertRefused(system(), reset(token, 'password123'), 'password_rejected', { errors: common });
    const reply = await call(system(), reset(token, user.email));
    assertProblem(reply, 'password_rejected', { errors: reply.body.errors });
    assert.equal(reply.body.errors[0].path, '/new_password');
    assert.equal((await readMe(system(), user.accessToken)).status, 200);
    assert.equal((await call(system(), reset(token))).status, 204);
  });

  test('a token works once', async () => {
    const user = await registerUser(system());
    const token = await prove(system(), user.email);
    assert.equal((await call(system(), reset(token))).status, 204);
    await assertRefused(system(), reset(token, 'another one entirely'), 'invalid_verification_token');
    assert.equal((await logIn(system(), user.email, newPassword)).status, 200);
  });

  test('a token works for ten minutes', async () => {
    const user = await registerUser(system());
    const token = await prove(system(), user.email);
    system().clock.advanceSeconds(600);
    await assertRefused(system(), reset(token), 'invalid_verification_token');
    const fresh = await prove(system(), user.email);
    system().clock.advanceSeconds(599);
    assert.equal((await call(system(), reset(fresh))).status, 204);
  });

  test('a proof for another purpose, and what is no proof, reset nothing', async () => {
    const user = await registerUser(system());
    const loginProof = await prove(system(), user.email, 'login');
    const registrationProof = await prove(system(), newEmail(), 'registration');
    const changeProof = await beginEmailChange(await openSession(system(), user), newEmail());
    for (const token of [loginProof, registrationProof, changeProof, 'x', `${'A'.repeat(22)}.${'A'.repeat(43)}`]) {
      await assertRefused(system(), reset(token), 'invalid_verification_token');
    }
    assert.equal((await call(system(), codeLogin(loginProof))).status, 200, 'the refusal used no proof up');
  });

  test('a body without either field, or with another one, is refused', async () => {
    const missing: Call = { method: 'POST', path: '/auth/reset-password', body: {} };
    const errors = ['/verification_token', '/new_password'].map((path) => ({ path, message: 'is required' }));
    await assertRefused(system(), missing, 'validation_failed', { errors });
    const user = await registerUser(system());
    const request = reset(await prove(system(), user.email));
    const unknown: Call = { ...request, body: { ...(request.body as object), email: user.email } };
    await assertRefused(system(), unknown, 'validation_failed', {
      errors: [{ path: '/email', message: 'is not a known field' }],
    });
  });

  test('an account disabled, deleted or moved since the code was sent is not reset', async () => {
    const disabled = await registerUser(system());
    const disabledProof = await prove(system(), disabled.email);
    await change(disabled.id, { status: 'disabled' });
    await assertRefused(system(), reset(disabledProof), 'invalid_verification_token');

    const moved = await registerUser(system());
    const movedProof = await prove(system(), moved.email);
    const email = newEmail();
    await change(moved.id, { email });
    await assertRefused(system(), reset(movedProof), 'invalid_verification_token');
    assert.equal((await logIn(system(), email, moved.password)).status, 200);

    const deleted = await registerUser(system());
    const deletedProof = await prove(system(), deleted.email);
    const { accessToken } = await openSession(system(), deleted);
    assert.equal((await call(system(), { method: 'DELETE', path: '/users/me', token: accessToken })).status, 204);
    await assertRefused(system(), reset(deletedProof), 'invalid_verification_token');
  });

  test('the proof of a deleted account resets no later account at the same address', async () => {
    const first = await registerUser(system());
    const proof = await prove(system(), first.email);
    const { accessToken } = await openSession(system(), first);
    await call(system(), { method: 'DELETE', path: '/users/me', token: accessToken });
    system().clock.advanceSeconds(61);
    const second = await registerUser(system(), { email: first.email });
    await assertRefused(system(), reset(proof), 'invalid_verification_token');
    assert.equal((await logIn(system(), second.email, second.password)).status, 200);
  });

  test('an account that has no password yet gets its first one', async () => {
    const user = await registerUser(system());
    const { db } = system().deps;
    await db.updateTable('users').set({ password_hash: null }).where('id', '=', user.id).execute();
    assert.equal((await call(system(), reset(await prove(system(), user.email)))).status, 204);
    assert.equal((await logIn(system(), user.email, newPassword)).status, 200);
  });

  test('an unknown address is answered like a known one and gets no mail and no code', async () => {
    const user = await registerUser(system());
    system().clock.advanceSeconds(61);
    const unknown = newEmail();
    const { mails } = await takeStock(system());
    const reply = await sendCode(system(), unknown, 'password_reset');
    assert.equal((await takeStock(system())).mails, mails);
    const known = await sendCode(system(), user.email, 'password_reset');
    assert.deepEqual([reply.status, reply.body], [known.status, known.body]);
    assert.deepEqual(Object.keys(reply.headers), Object.keys(known.headers));
  });
});
