import assert from 'node:assert/strict';
import { goodPassword, logIn, newEmail, obtainCode, proveAddress } from '../accounts.ts';
import { assertProblem, type Call, call } from '../client.ts';
import type { System } from '../system.ts';
import { inParallel, type Races } from './races.ts';

/** Races of registrations. */
export const registrationRaces: Races = {
  '20 parallel registrations with one token make one account': async (system) => {
    const email = newEmail();
    const token = await proveAddress(system, email, 'registration');
    const replies = await inParallel(20, () => call(system, registration(token)));
    const created = replies.filter((reply) => reply.status === 201);
    assert.equal(created.length, 1);
    for (const reply of replies) if (reply.status !== 201) assertProblem(reply, 'invalid_verification_token');
    assert.deepEqual(await idsOf(system, email), [created[0]?.body.user.id]);
  },

  'of parallel registrations of one address, with two proofs, one makes the account': async (system, rounds) => {
    for (let round = 0; round < rounds(8); round += 1) {
      const email = newEmail();
      const first = await proveAddress(system, email, 'registration');
      system.clock.advanceSeconds(61);
      const code = await obtainCode(system, email, 'registration');
      const passwords = [`${goodPassword} one`, `${goodPassword} two`];
      const registerAll = (token: string, password = '') =>
        inParallel(4, () => call(system, registration(token, { password })));
      // The second proof replaces the first, so it is made while the first is being used.
      const secondMade = async () => {
        await new Promise((resolve) => setTimeout(resolve, round * 2));
        const body = { email, purpose: 'registration', code };
        return (await call(system, { method: 'POST', path: '/auth/verify-code', body })).body.verification_token;
      };
      const outcomes = await Promise.all([
        registerAll(first, passwords[0]),
        secondMade().then((second: string) => registerAll(second, passwords[1])),
      ]);
      const created = outcomes.flat().filter((reply) => reply.status === 201);
      assert.equal(created.length, 1);
      for (const { status, body, text } of outcomes.flat()) {
        const isRefused = ['account_exists', 'invalid_verification_token'].includes(body.code);
        assert.ok(status === 201 || isRefused, text);
      }
      assert.deepEqual(await idsOf(system, email), [created[0]?.body.user.id]);
      const logins = await Promise.all(passwords.map((password) => logIn(system, email, password)));
      assert.deepEqual(
        logins.map(({ status }) => status === 200),
        outcomes.map((replies) => replies.some(({ status }) => status === 201)),
      );
    }
  },
};

function registration(verification_token: string, fields: Record<string, unknown> = {}): Call {
  return { method: 'POST', path: '/auth/register', body: { verification_token, password: goodPassword, ...fields } };
}

async function idsOf({ deps }: System, email: string): Promise<string[]> {
  const rows = await deps.db.selectFrom('users').select('id').where('email', '=', email).execute();
  return rows.map(({ id }) => id);
}
