import assert from 'node:assert/strict';
import { goodPassword, logIn, newEmail, readMe, refresh, registerUser, subjectsOfMails } from '../accounts.ts';
import { assertProblem, call, type Reply } from '../client.ts';
import { eventsOf, newPassword, prove, reset, sessionsOf } from '../password-reset.ts';
import type { System } from '../system.ts';
import { inParallel, type Races } from './races.ts';

/** Races of changes of the password. */
export const passwordChangeRaces: Races = {
  'of parallel changes one wins, and only its password works': async (system) => {
    const user = await registerUser(system);
    const candidates = Array.from({ length: 5 }, (_, index) => `${newPassword} ${index}`);
    const replies = await Promise.all(
      candidates.map((new_password) => {
        const body = { current_password: user.password, new_password };
        return call(system, { method: 'PUT', path: '/users/me/password', token: user.accessToken, body });
      }),
    );
    assert.equal(replies.filter((reply) => reply.status === 204).length, 1);
    const logins = await Promise.all(candidates.map((candidate) => logIn(system, user.email, candidate)));
    assert.deepEqual(
      logins.map((login) => login.status === 200),
      replies.map((reply) => reply.status === 204),
    );
  },
};

/** Resets one password with one token to each of the candidates, and says of each whether it was refused, and how. */
type ResetAll = (
  system: System,
  verificationToken: string,
  candidates: readonly string[],
) => Promise<(string | undefined)[]>;

/** Of 20 parallel resets with one token one gets through. How they are made to meet is the caller's. */
export async function raceResets(system: System, resetAll: ResetAll): Promise<void> {
  const user = await registerUser(system);
  const verificationToken = await prove(system, user.email);
  const candidates = Array.from({ length: 20 }, (_, index) => `${newPassword} ${index}`);
  const refusals = await resetAll(system, verificationToken, candidates);
  assert.deepEqual(
    refusals.filter((code) => code !== undefined),
    Array.from({ length: 19 }, () => 'invalid_verification_token'),
  );
  for (const [index, candidate] of candidates.entries()) {
    const { status } = await logIn(system, user.email, candidate);
    assert.equal(status === 200, refusals[index] === undefined);
  }
  assert.equal((await eventsOf(system, user.id, 'password.reset')).length, 1);
  const subjects = await subjectsOfMails(system, user.email);
  assert.equal(subjects.filter((subject) => subject === 'Your password was reset').length, 1);
}

/** Resets over HTTP. */
export const resetOverHttp: ResetAll = (system, verificationToken, candidates) =>
  Promise.all(
    candidates.map(async (candidate) => (await call(system, reset(verificationToken, candidate))).body?.code),
  );

/** Races of resets of the password. */
export const resetRaces: Races = {
  'a reset racing logins with the old password leaves no session of it alive': async (system, rounds) => {
    for (let round = 0; round < rounds(40); round += 1) {
      const user = await registerUser(system);
      const token = await prove(system, user.email);
      const attempts = inParallel(3, async (index) => {
        // Spread over the time that the reset takes, so that rounds meet it at different points.
        for (let turn = 0; turn < (round + index * 7) % 21; turn += 1) {
          await new Promise<void>((resolve) => setImmediate(resolve));
        }
        return logIn(system, user.email, goodPassword);
      });
      const [done, logins] = await Promise.all([call(system, reset(token)), attempts]);
      assert.equal(done.status, 204);
      assert.equal(await sessionsOf(system, user.id), 0);
      for (const login of logins) {
        if (login.status !== 200) {
          assertProblem(login, 'invalid_credentials');
          continue;
        }
        assertProblem(await readMe(system, login.body.access_token), 'invalid_token');
        assertProblem(await refresh(system, login.body.refresh_token), 'invalid_refresh_token');
      }
    }
  },

  'a reset racing a refresh leaves no session alive': async (system, rounds) => {
    for (let round = 0; round < rounds(20); round += 1) {
      const user = await registerUser(system);
      const token = await prove(system, user.email);
      const [done, refreshed] = await Promise.all([call(system, reset(token)), refresh(system, user.refreshToken)]);
      assert.equal(done.status, 204);
      assert.equal(await sessionsOf(system, user.id), 0);
      if (refreshed.status !== 200) continue;
      assertProblem(await readMe(system, refreshed.body.access_token), 'invalid_token');
    }
  },

  'an account that moves while it is being reset keeps its password': async (system) => {
    const user = await registerUser(system);
    const token = await prove(system, user.email);
    const email = newEmail();
    let reply = Promise.resolve<Reply | undefined>(undefined);
    await system.deps.db.transaction().execute(async (tx) => {
      await tx.updateTable('users').set({ email }).where('id', '=', user.id).execute();
      reply = call(system, reset(token));
      // Long enough for the reset to have read the account as it still was, and to wait for this row.
      await new Promise((resolve) => setTimeout(resolve, 200));
    });
    const answered = await reply;
    assert.ok(answered);
    assertProblem(answered, 'invalid_verification_token');
    assert.equal((await logIn(system, email, user.password)).status, 200);
    assert.equal((await readMe(system, user.accessToken)).status, 200);
  },
};
