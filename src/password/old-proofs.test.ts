import assert from 'node:assert/strict';
import { test } from 'node:test';
import { registerUser, subjectsOfMails, type TestUser } from '../../test/accounts.ts';
import { assertRefused, type Call, call } from '../../test/client.ts';
import { newPassword, prove, reset } from '../../test/password-reset.ts';
import { describeOnBackends } from '../../test/system.ts';
import type { Deps } from '../deps.ts';
import { AppError } from '../errors.ts';
import { resetPassword } from './flow.ts';

const context = { requestId: '', clientAddress: '127.0.0.1', userAgent: null, signal: AbortSignal.timeout(60_000) };

describeOnBackends('proofs from before a password was replaced', {}, (system) => {
  function codeLogin(verification_token: string): Call {
    return { method: 'POST', path: '/auth/login/code', body: { verification_token } };
  }

  function changePassword(user: TestUser): Call {
    const body = { current_password: user.password, new_password: newPassword };
    return { method: 'PUT', path: '/users/me/password', token: user.accessToken, body };
  }

  /** The short-lived store goes away in the instant after the reset is committed. */
  function withoutRemoval(deps: Deps): Deps {
    const remove = () => Promise.reject(new AppError('temporarily_unavailable'));
    return { ...deps, ephemeral: { ...deps.ephemeral, remove } };
  }

  test('log nobody in after a reset, even where they could not be removed', async () => {
    const user = await registerUser(system());
    const older = await prove(system(), user.email, 'login');
    const verificationToken = await prove(system(), user.email);
    await resetPassword(withoutRemoval(system().deps), { verificationToken, newPassword }, context);
    await assertRefused(system(), codeLogin(older), 'invalid_verification_token');
  });

  test('make no authentication recent after a reset', async () => {
    const user = await registerUser(system());
    const older = await prove(system(), user.email, 'login');
    const verificationToken = await prove(system(), user.email);
    await resetPassword(withoutRemoval(system().deps), { verificationToken, newPassword }, context);
    const login = await call(system(), {
      method: 'POST',
      path: '/auth/login',
      body: { email: user.email, password: newPassword },
    });
    const body = { verification_token: older };
    const request: Call = { method: 'POST', path: '/auth/reauthenticate', token: login.body.access_token, body };
    await assertRefused(system(), request, 'invalid_verification_token');
  });

  test('undo no password change: whoever held the mailbox for a moment has nothing left', async () => {
    const user = await registerUser(system());
    const proofs = [await prove(system(), user.email), await prove(system(), user.email, 'login')];
    assert.equal((await call(system(), changePassword(user))).status, 204);
    await assertRefused(system(), reset(proofs[0] ?? ''), 'invalid_verification_token');
    await assertRefused(system(), codeLogin(proofs[1] ?? ''), 'invalid_verification_token');
  });

  test('are followed by proofs that work', async () => {
    const user = await registerUser(system());
    assert.equal((await call(system(), changePassword(user))).status, 204);
    const proof = await prove(system(), user.email, 'login');
    assert.equal((await call(system(), codeLogin(proof))).status, 200);
  });
});

describeOnBackends('devices from before a password was replaced', {}, (system) => {
  const thief = {
    headers: { 'user-agent': 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0' },
    remoteAddress: '203.0.113.7',
  };

  async function logInAsThief(user: TestUser, password: string): Promise<number> {
    const body = { email: user.email, password };
    const reply = await call(system(), { method: 'POST', path: '/auth/login', body, ...thief });
    assert.equal(reply.status, 200);
    const subjects = await subjectsOfMails(system(), user.email);
    return subjects.filter((subject) => subject === 'New login to your account').length;
  }

  test('are news again after a reset', async () => {
    const user = await registerUser(system());
    assert.equal(await logInAsThief(user, user.password), 1);
    assert.equal(await logInAsThief(user, user.password), 1);
    await call(system(), reset(await prove(system(), user.email)));
    assert.equal(await logInAsThief(user, newPassword), 2);
  });

  test('are news again after a password change, but for the one that changed it', async () => {
    const user = await registerUser(system());
    assert.equal(await logInAsThief(user, user.password), 1);
    const body = { current_password: user.password, new_password: newPassword };
    await call(system(), { method: 'PUT', path: '/users/me/password', token: user.accessToken, body });
    const own = await call(system(), {
      method: 'POST',
      path: '/auth/login',
      body: { email: user.email, password: newPassword },
    });
    assert.equal(own.status, 200);
    assert.equal(await logInAsThief(user, newPassword), 2);
  });
});
