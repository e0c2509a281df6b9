import assert from 'node:assert/strict';
import { newEmail, obtainCode, sendCode, subjectsOfMails } from '../accounts.ts';
import { assertProblem, assertRefusedAndRecorded, type Call, call } from '../client.ts';
import { inParallel, type Races } from './races.ts';

const symbols = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';

/** Races of e-mailed codes. */
export const codeRaces: Races = {
  '50 parallel right codes give one proof': async (system) => {
    const email = newEmail();
    const request = guess(email, await obtainCode(system, email, 'registration'));
    const replies = await inParallel(50, () => call(system, request));
    assert.equal(replies.filter((reply) => reply.status === 200).length, 1);
    for (const reply of replies) if (reply.status !== 200) assertProblem(reply, 'invalid_code');
  },

  'of 50 parallel wrong codes at most five are evaluated': async (system) => {
    const email = newEmail();
    const code = await obtainCode(system, email, 'registration');
    const guesses = Array.from({ length: 50 }, (_, index) => {
      const other = `${symbols[index % 32]}${symbols[(index * 7) % 32]}0000`;
      return other === code ? '111111' : other;
    });
    // The right code comes among the wrong ones: had more than five been compared, it would have been found.
    guesses.splice(25, 0, code);
    const replies = await Promise.all(guesses.map((typed) => call(system, guess(email, typed))));
    for (const reply of replies) assertProblem(reply, 'invalid_code');
    await assertRefusedAndRecorded(system, guess(email, code), 'invalid_code', 'code.refused');
  },

  '20 parallel requests for one address send one mail': async (system) => {
    const email = newEmail();
    const replies = await inParallel(20, () => sendCode(system, email, 'registration'));
    assert.equal(replies.filter((reply) => reply.status === 202).length, 1);
    assert.equal((await subjectsOfMails(system, email)).length, 1);
  },
};

function guess(email: string, code: string): Call {
  return { method: 'POST', path: '/auth/verify-code', body: { email, purpose: 'registration', code } };
}
