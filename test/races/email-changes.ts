import assert from 'node:assert/strict';
import { newEmail, proveAddress, registerUser, subjectsOfMails } from '../accounts.ts';
import { assertProblem, type Call, call } from '../client.ts';
import { complete, emailOf, prove } from '../email-change.ts';
import { inParallel, type Races } from './races.ts';

/** Races of changes of the address. */
export const emailChangeRaces: Races = {
  'the unique index decides a race between a change and a registration': async (system, rounds) => {
    for (let round = 0; round < rounds(10); round += 1) {
      const user = await registerUser(system);
      const email = newEmail();
      const token = await prove(system, user, email);
      system.clock.advanceSeconds(61);
      const verification_token = await proveAddress(system, email, 'registration');
      const body = { verification_token, password: 'quiet lantern over the harbour' };
      const registration = call(system, { method: 'POST', path: '/auth/register', body });
      // The registration hashes a password first; without a head start it would lose every round.
      if (round % 2 === 0) await new Promise((resolve) => setTimeout(resolve, round));
      const [registered, changed] = await Promise.all([registration, call(system, complete(user, token))]);
      if (changed.status === 200) {
        assert.equal(changed.body.email, email);
        assert.ok(['account_exists', 'invalid_verification_token'].includes(registered.body.code), registered.text);
      } else {
        assertProblem(changed, 'account_exists');
        assert.equal(registered.status, 201);
        assert.equal(await emailOf(system, user), user.email);
      }
    }
  },

  'of 20 parallel completions with one proof one gets through': async (system) => {
    const user = await registerUser(system);
    const request = complete(user, await prove(system, user, newEmail()));
    const replies = await inParallel(20, () => call(system, request));
    assert.equal(replies.filter((reply) => reply.status === 200).length, 1);
    for (const reply of replies) if (reply.status !== 200) assertProblem(reply, 'invalid_verification_token');
    const subjects = await subjectsOfMails(system, user.email);
    assert.equal(subjects.filter((subject) => subject === 'Your e-mail address was changed').length, 1);
  },

  'a change racing a password change ends in one of the two orders, never in an error': async (system, rounds) => {
    for (let round = 0; round < rounds(15); round += 1) {
      const user = await registerUser(system);
      const token = await prove(system, user, newEmail());
      const body = { current_password: user.password, new_password: 'quiet lantern over the harbour' };
      const request: Call = { method: 'PUT', path: '/users/me/password', token: user.accessToken, body };
      const delayed = new Promise((resolve) => setTimeout(resolve, round % 6));
      const [password, change] = await Promise.all([
        call(system, request),
        delayed.then(() => call(system, complete(user, token))),
      ]);
      assert.equal(password.status, 204, password.text);
      if (change.status !== 200) assertProblem(change, 'invalid_verification_token');
    }
  },
};
