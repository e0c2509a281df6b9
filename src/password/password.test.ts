import assert from 'node:assert/strict';
import { test } from 'node:test';
import { logIn, openSession, readMe, refresh, registerUser, subjectsOfMails } from '../../test/accounts.ts';
import { assertProblem, assertRefused, type Call, call, takeStock } from '../../test/client.ts';
import { passwordChangeRaces } from '../../test/races/passwords.ts';
import { testRaces } from '../../test/races/races.ts';
import { describeOnBackends } from '../../test/system.ts';

const newPassword = 'quiet lantern over the harbour';

describeOnBackends('password change', {}, (system) => {
  function change(token: string, current_password: string, new_password: string): Call {
    return { method: 'PUT', path: '/users/me/password', token, body: { current_password, new_password } };
  }

  test('the current password is exchanged for a new one, every other session ends and the owner is told', async () => {
    const user = await registerUser(system());
    const other = await openSession(system(), user);
    const reply = await call(system(), change(user.accessToken, user.password, newPassword));
    assert.equal(reply.status, 204);
    assert.equal((await readMe(system(), user.accessToken)).status, 200);
    assert.equal((await refresh(system(), user.refreshToken)).status, 200);
    assertProblem(await readMe(system(), other.accessToken), 'invalid_token');
    assertProblem(await refresh(system(), other.refreshToken), 'invalid_refresh_token');
    assertProblem(await logIn(system(), user.email, user.password), 'invalid_credentials');
    assert.equal((await logIn(system(), user.email, newPassword)).status, 200);
    const [newest] = await subjectsOfMails(system(), user.email);
    assert.equal(newest, 'Your password was changed');
  });

  test('a wrong current password changes nothing and ends nothing', async () => {
    const user = await registerUser(system());
    const before = await takeStock(system());
    const reply = await call(system(), change(user.accessToken, 'not the password', newPassword));
    assertProblem(reply, 'invalid_credentials');
    // Nothing but the event.
    assert.deepEqual(await takeStock(system()), { ...before, audit_events: (before.audit_events ?? 0) + 1 });
    assert.equal((await logIn(system(), user.email, user.password)).status, 200);
  });

  test('a new password is held to the same rules as the first one', async () => {
    const user = await registerUser(system());
    const errors = [{ path: '/new_password', message: 'is one of the most common passwords' }];
    const request = change(user.accessToken, user.password, 'password123');
    await assertRefused(system(), request, 'password_rejected', { errors });
  });

  test('it needs an access token', async () => {
    const { token: _token, ...anonymous } = change('', 'a', 'b');
    await assertRefused(system(), anonymous, 'authentication_required');
  });

  testRaces(passwordChangeRaces, system);
});
