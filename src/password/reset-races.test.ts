import assert from 'node:assert/strict';
import { test } from 'node:test';
import { goodPassword, logIn, newEmail, readMe, refresh, registerUser, subjectsOfMails } from '../../test/accounts.ts';
import { assertProblem, call } from '../../test/client.ts';
import { eventsOf, newPassword, prove, reset, sessionsOf } from '../../test/password-reset.ts';
import { describeOnBackends } from '../../test/system.ts';
import { resetPassword } from './flow.ts';

describeOnBackends('password reset', {}, (system) => {
  test('of 20 parallel resets with one token one gets through, and its password is the one that works', async () => {
    const user = await registerUser(system());
    const verificationToken = await prove(system(), user.email);
    const { deps } = system();
    const candidates = Array.from({ length: 20 }, (_, index) => `${newPassword} ${index}`);
    // Hashing takes unequal times, so all wait for the last before they use the token, and do it at once.
    const { promise: allAreHashed, resolve } = Promise.withResolvers<void>();
    let hashed = 0;
    const hash = async (password: string) => {
      const result = await deps.passwords.hash(password);
      hashed += 1;
      if (hashed === candidates.length) resolve();
      await allAreHashed;
      return result;
    };
    const together = { ...deps, passwords: { ...deps.passwords, hash } };
    const context = {
      requestId: '',
      clientAddress: '203.0.113.7',
      userAgent: null,
      signal: AbortSignal.timeout(60_000),
    };
    const outcomes = await Promise.allSettled(
      candidates.map((candidate) => resetPassword(together, { verificationToken, newPassword: candidate }, context)),
    );
    const refusals = outcomes.filter((outcome) => outcome.status === 'rejected').map(({ reason }) => reason.code);
    assert.deepEqual(
      refusals,
      Array.from({ length: 19 }, () => 'invalid_verification_token'),
    );
    for (const [index, candidate] of candidates.entries()) {
      const { status } = await logIn(system(), user.email, candidate);
      assert.equal(status === 200, outcomes[index]?.status === 'fulfilled');
    }
    assert.equal((await eventsOf(system(), user.id, 'password.reset')).length, 1);
    const subjects = await subjectsOfMails(system(), user.email);
    assert.equal(subjects.filter((subject) => subject === 'Your password was reset').length, 1);
  });

  test('a reset racing logins with the old password leaves no session of it alive', async () => {
    for (let round = 0; round < 40; round += 1) {
      const user = await registerUser(system());
      const token = await prove(system(), user.email);
      const attempts = Array.from({ length: 3 }, async (_, index) => {
        // Spread over the time that the reset takes, so that rounds meet it at different points.
        for (let turn = 0; turn < (round + index * 7) % 21; turn += 1) {
          await new Promise<void>((resolve) => setImmediate(resolve));
        }
        return logIn(system(), user.email, goodPassword);
      });
      const [done, ...logins] = await Promise.all([call(system(), reset(token)), ...attempts]);
      assert.equal(done.status, 204);
      assert.equal(await sessionsOf(system(), user.id), 0);
      for (const login of logins) {
        if (login.status !== 200) {
          assertProblem(login, 'invalid_credentials');
          continue;
        }
        assertProblem(await readMe(system(), login.body.access_token), 'invalid_token');
        assertProblem(await refresh(system(), login.body.refresh_token), 'invalid_refresh_token');
      }
    }
  });

  test('a reset racing a refresh leaves no session alive', async () => {
    for (let round = 0; round < 20; round += 1) {
      const user = await registerUser(system());
      const token = await prove(system(), user.email);
      const [done, refreshed] = await Promise.all([call(system(), reset(token)), refresh(system(), user.refreshToken)]);
      assert.equal(done.status, 204);
      assert.equal(await sessionsOf(system(), user.id), 0);
      if (refreshed.status !== 200) continue;
      assertProblem(await readMe(system(), refreshed.body.access_token), 'invalid_token');
    }
  });

  test('an account that moves while it is being reset keeps its password', async () => {
    const user = await registerUser(system());
    const token = await prove(system(), user.email);
    const email = newEmail();
    let reply = Promise.resolve<Awaited<ReturnType<typeof call>> | undefined>(undefined);
    await system()
      .deps.db.transaction()
      .execute(async (tx) => {
        await tx.updateTable('users').set({ email }).where('id', '=', user.id).execute();
        reply = call(system(), reset(token));
        // Long enough for the reset to have read the account as it still was, and to wait for this row.
        await new Promise((resolve) => setTimeout(resolve, 200));
      });
    const answered = await reply;
    assert.ok(answered);
    assertProblem(answered, 'invalid_verification_token');
    assert.equal((await logIn(system(), email, user.password)).status, 200);
    assert.equal((await readMe(system(), user.accessToken)).status, 200);
  });
});
