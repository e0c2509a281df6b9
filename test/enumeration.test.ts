import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sha256 } from '../src/crypto/secrets.ts';
import { disableUser, goodPassword, newEmail, newestMail } from './accounts.ts';
import { type Call, call, type Reply } from './client.ts';
import { from, newPlace, type Place, wrongPassword } from './guessing.ts';
import { inParallel } from './races/races.ts';
import { insertAccount, openAnySession, type Subject, states } from './subjects.ts';
import { describeOnBackends, type System } from './system.ts';

/*
 * Nobody may learn from an answer what an address is: known or not, disabled, invited, throttled or suspended. Each
 * question is asked about an address in each state, from a client that was never seen, and the answers must not
 * differ in anything but the time, the name of the request and what is left of the client's own limit.
 */

type Seen = { status: number; headers: Record<string, string | undefined>; body: unknown };

const ownToAnAnswer = ['date', 'x-request-id', 'ratelimit'];

function seen({ status, headers, body }: Reply): Seen {
  const { request_id: _own, ...rest } = body ?? {};
  const kept = Object.entries(headers).filter(([name]) => !ownToAnAnswer.includes(name));
  return { status, headers: Object.fromEntries(kept.sort()), body: rest };
}

/** Well formed, and with the part that names the address, but never issued. */
function forgedToken(email: string): string {
  return `${sha256(email).slice(0, 22)}.${'A'.repeat(43)}`;
}

const post = (path: string, body: unknown): Call => ({ method: 'POST', path, body });

/** What can be asked about an address by anybody. */
const questions: Record<string, (subject: Subject) => Call> = {
  'a login with a wrong password': ({ email }) => post('/auth/login', { email, password: wrongPassword }),
  'a registration with a token that was never issued': ({ email, password }) =>
    post('/auth/register', { verification_token: forgedToken(email), password }),
  'a reset with a token that was never issued': ({ email }) =>
    post('/auth/reset-password', { verification_token: forgedToken(email), new_password: goodPassword }),
  'a login with a token that was never issued': ({ email }) =>
    post('/auth/login/code', { verification_token: forgedToken(email) }),
  'a wrong code where none was asked for': ({ email }) =>
    post('/auth/verify-code', { email, purpose: 'login', code: 'AAAAAA' }),
};

// More than the throttle lets through, whose refusals must not be told from those of a wrong password.
const withoutAccounts = 'reauthenticate=1000/m/ip;password=1000/m/ip';

describeOnBackends(
  'what an answer tells of an address',
  { RATE_LIMITS: withoutAccounts, HASH_QUEUE_MAX: '500' },
  (system) => {
    const ask = async (question: Call, place: Place = newPlace()) => seen(await call(system(), from(question, place)));

    /** Asks about one subject in each of the states, and asserts that the answers are alike. */
    async function assertAlike(
      subjects: Readonly<Record<string, () => Promise<Subject>>>,
      question: (subject: Subject) => Promise<Seen>,
    ): Promise<Seen> {
      let expected: Seen | undefined;
      for (const [state, make] of Object.entries(subjects)) {
        const answer = await question(await make());
        expected ??= answer;
        assert.deepEqual(answer, expected, state);
      }
      assert.ok(expected);
      return expected;
    }

    const everyState = Object.fromEntries(
      Object.entries(states).map(([state, make]) => [
        state,
        () => (make as (system: System) => Promise<Subject>)(system()),
      ]),
    );
    const { 'an active account': _open, 'an account that was deleted': _gone, ...closed } = everyState;

    test('whatever can be asked at once is answered alike for every state of an address', async () => {
      const subjects: Record<string, () => Promise<Subject>> = {};
      for (const [state, make] of Object.entries(everyState)) {
        const subject = await make();
        subjects[state] = async () => subject;
      }
      for (const [name, question] of Object.entries(questions)) {
        const { status } = await assertAlike(subjects, (subject) => ask(question(subject)));
        assert.equal(status, name === 'a login with a wrong password' ? 401 : 400, name);
      }
    });

    test('the right password, where it is not accepted, is answered like a wrong one', async () => {
      const wrong = await ask(
        post('/auth/login', { email: (await everyState['an active account']?.())?.email, password: wrongPassword }),
      );
      const right = await assertAlike(closed, ({ email, password }) => ask(post('/auth/login', { email, password })));
      assert.deepEqual([right, right.status], [wrong, 401]);
    });

    test('ten wrong passwords of one client in a row are answered alike, whatever the address', async () => {
      for (const make of Object.values(everyState)) {
        const [{ email }, place] = [await make(), newPlace()];
        const answers = await inParallel(10, () => ask(post('/auth/login', { email, password: wrongPassword }), place));
        for (const answer of answers) assert.deepEqual(answer, answers[0]);
      }
    });

    for (const purpose of ['registration', 'login', 'password_reset']) {
      test(`a second code for ${purpose} at once, and six wrong ones, are answered alike`, async () => {
        const answers = await Promise.all(
          Object.values(everyState).map(async (make) => {
            const { email } = await make();
            const path = '/auth/verify-code';
            const history = [await ask(post('/auth/send-code', { email, purpose }))];
            history.push(await ask(post('/auth/send-code', { email, purpose })));
            for (let tried = 0; tried < 6; tried += 1) {
              history.push(await ask(post(path, { email, purpose, code: 'AAAAAA' })));
            }
            return history;
          }),
        );
        assert.deepEqual(
          answers[0]?.map(({ status }) => status),
          [202, 429, 400, 400, 400, 400, 400, 400],
        );
        for (const history of answers) assert.deepEqual(history, answers[0]);
      });
    }

    /** Proves an address that has no account yet, or an active one, for a purpose. */
    async function prove(email: string, purpose: string): Promise<string> {
      const place = newPlace();
      await call(system(), from(post('/auth/send-code', { email, purpose }), place));
      const code = (await newestMail(system(), email))?.subject.slice(0, 6);
      const reply = await call(system(), from(post('/auth/verify-code', { email, purpose, code }), place));
      assert.equal(reply.status, 200, reply.text);
      return reply.body.verification_token;
    }

    test('the proof of an address that was taken meanwhile is answered alike, whoever has it now', async () => {
      const owners = {
        active: {},
        disabled: { status: 'disabled' },
      };
      let expected: Seen | undefined;
      for (const [status, columns] of Object.entries(owners)) {
        const email = newEmail();
        const verification_token = await prove(email, 'registration');
        await insertAccount(system(), columns as Parameters<typeof insertAccount>[1], email);
        const answer = await ask(post('/auth/register', { verification_token, password: goodPassword }));
        expected ??= answer;
        assert.deepEqual([answer, answer.status], [expected, 409], status);
      }
    });

    test('proofs of an account that was disabled, deleted or reset since are worth what a forged one is', async () => {
      for (const purpose of ['password_reset', 'login']) {
        const request = (verification_token: string) =>
          purpose === 'login'
            ? post('/auth/login/code', { verification_token })
            : post('/auth/reset-password', { verification_token, new_password: goodPassword });
        const forged = await ask(request(forgedToken(newEmail())));
        assert.equal(forged.status, 400);
        const { db } = system().deps;
        const fates = {
          disabled: (email: string) =>
            db.updateTable('users').set({ status: 'disabled' }).where('email', '=', email).execute(),
          deleted: (email: string) => db.deleteFrom('users').where('email', '=', email).execute(),
          reset: (email: string) =>
            db
              .updateTable('users')
              .set({ proofs_valid_from: system().clock.now() })
              .where('email', '=', email)
              .execute(),
        };
        for (const [fate, bring] of Object.entries(fates)) {
          const { email } = await insertAccount(system(), {});
          const token = await prove(email, purpose);
          await bring(email);
          assert.deepEqual(await ask(request(token)), forged, `${purpose}, ${fate}`);
          assert.deepEqual(await ask(request(token)), forged, `${purpose}, ${fate}, again`);
        }
      }
    });

    /** What asks for the password in a session. */
    const inSession = {
      'a re-authentication': (token: string, password: string): Call => ({
        ...post('/auth/reauthenticate', { password }),
        token,
      }),
      'a change of the password': (token: string, password: string): Call => {
        const body = { current_password: password, new_password: 'quiet lantern over the harbour' };
        return { method: 'PUT', path: '/users/me/password', token, body };
      },
    };

    for (const [name, question] of Object.entries(inSession)) {
      test(`${name} is answered alike where the password is wrong, has to wait, is suspended or is none`, async () => {
        const { db } = system().deps;
        const fail = async (token: string, times: number) => {
          for (let tried = 0; tried < times; tried += 1) await ask(question(token, wrongPassword), newPlace());
        };
        const password = goodPassword;
        const wrong = await ask(
          question(await openAnySession(system(), await insertAccount(system(), {})), wrongPassword),
        );
        assert.equal(wrong.status, 401);

        const waiting = await openAnySession(system(), await insertAccount(system(), {}));
        const place = newPlace();
        // Twenty are free in a session, and each of the two limits of the client lets fewer through.
        const { 'a re-authentication': reauthenticate, 'a change of the password': change } = inSession;
        for (let tried = 0; tried < 11; tried += 1) await ask(reauthenticate(waiting, wrongPassword), place);
        for (let tried = 0; tried < 9; tried += 1) await ask(change(waiting, wrongPassword), place);
        assert.deepEqual(await ask(question(waiting, password), place), wrong);

        const suspended = await openAnySession(system(), await insertAccount(system(), {}));
        await fail(suspended, 1);
        await db.updateTable('password_failures').set({ failures: 100 }).where('failures', '=', 1).execute();
        assert.deepEqual(await ask(question(suspended, password)), wrong);

        const subject = await insertAccount(system(), {});
        const without = await openAnySession(system(), subject);
        await db.updateTable('users').set({ password_hash: null }).where('email', '=', subject.email).execute();
        assert.deepEqual(await ask(question(without, password)), wrong);
      });

      test(`${name} is answered alike in a session of an account that was disabled, deleted or logged out`, async () => {
        const { db } = system().deps;
        const answers: Seen[] = [];
        for (const fate of ['disabled', 'deleted', 'logged out']) {
          const subject = await insertAccount(system(), {});
          const token = await openAnySession(system(), subject);
          const { id } = await db
            .selectFrom('users')
            .select('id')
            .where('email', '=', subject.email)
            .executeTakeFirstOrThrow();
          if (fate === 'disabled') await disableUser(system(), id);
          if (fate === 'deleted') {
            await db.deleteFrom('users').where('id', '=', id).execute();
            await system().deps.sessionCache?.block(id);
          }
          if (fate === 'logged out') await call(system(), { method: 'POST', path: '/auth/logout', token });
          answers.push(await ask(question(token, goodPassword)));
        }
        assert.equal(answers[0]?.status, 401);
        for (const answer of answers) assert.deepEqual(answer, answers[0]);
      });
    }
  },
);
