import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import {
  disableUser,
  logIn,
  newEmail,
  readMe,
  refresh,
  registerUser,
  subjectsOfMails,
  type TestUser,
} from '../../test/accounts.ts';
import { assertProblem, type Call, call } from '../../test/client.ts';
import { failuresOf, guess, guessOften, newPlace, readCounts, tryLogin, wrongPassword } from '../../test/guessing.ts';
import { eventsOf, newPassword, prove, reset } from '../../test/password-reset.ts';
import { inParallel } from '../../test/races/races.ts';
import { describeOnBackends, startPeer, startSystem } from '../../test/system.ts';
import { createMaintenance } from '../maintenance/flow.ts';

const subject = 'Too many wrong passwords';
const day = 24 * 60 * 60;

describeOnBackends('wrong passwords in a row', { HASH_QUEUE_MAX: '1000' }, (system) => {
  const reauthenticate = (user: TestUser, password: string): Call => {
    return { method: 'POST', path: '/auth/reauthenticate', token: user.accessToken, body: { password } };
  };
  const change = (user: TestUser, current_password: string, new_password = newPassword): Call => {
    const body = { current_password, new_password };
    return { method: 'PUT', path: '/users/me/password', token: user.accessToken, body };
  };

  /** The counts of a user's lanes, the largest first. */
  async function countsOf(user: TestUser): Promise<number[]> {
    const rows = (await readCounts(system())).filter((row) => row.user_id === user.id);
    return rows.map((row) => row.failures).sort((a, b) => b - a);
  }

  async function suspendedEvents(user: TestUser): Promise<unknown[]> {
    return (await eventsOf(system(), user.id, 'password.suspended')).map(({ details }) => JSON.parse(details));
  }

  async function mailsTo(email: string): Promise<number> {
    return (await subjectsOfMails(system(), email)).filter((line) => line === subject).length;
  }

  test('after a hundred by strangers no stranger’s password is right, until a reset', async () => {
    const user = await registerUser(system());
    await guess(system(), user.email, 99);
    assert.equal(
      (await tryLogin(system(), user.email, user.password, newPlace())).status,
      200,
      'the hundredth is right',
    );
    await guessOften(system(), user.email, 99);
    assert.deepEqual(await suspendedEvents(user), []);
    await guess(system(), user.email, 1);
    assert.deepEqual(await suspendedEvents(user), [{ lane: 'public' }]);
    assertProblem(await tryLogin(system(), user.email, user.password, newPlace()), 'invalid_credentials');
    system().clock.advanceSeconds(90 * day);
    assertProblem(await tryLogin(system(), user.email, user.password, newPlace()), 'invalid_credentials');
    const sent = await prove(system(), user.email);
    assert.equal((await call(system(), reset(sent))).status, 204);
    assert.equal((await tryLogin(system(), user.email, newPassword, newPlace())).status, 200);
    assert.deepEqual([await suspendedEvents(user), await mailsTo(user.email)], [[{ lane: 'public' }], 1]);
  });

  test('the owner stays logged in and logs in from a known device, by code, and changes the password', async () => {
    const user = await registerUser(system());
    await guessOften(system(), user.email, 130);
    assert.equal((await logIn(system(), user.email, user.password)).status, 200);
    assert.equal((await readMe(system(), user.accessToken)).status, 200);
    const { access_token: accessToken } = (await refresh(system(), user.refreshToken)).body;
    assert.equal((await call(system(), reauthenticate({ ...user, accessToken }, user.password))).status, 204);
    const verification_token = await prove(system(), user.email, 'login');
    const byCode = { method: 'POST', path: '/auth/login/code', body: { verification_token } } as const;
    assert.equal((await call(system(), byCode)).status, 200);
    assertProblem(await tryLogin(system(), user.email, user.password, newPlace()), 'invalid_credentials');
    assert.equal((await call(system(), change({ ...user, accessToken }, user.password))).status, 204);
    assert.equal((await tryLogin(system(), user.email, newPassword, newPlace())).status, 200);
  });

  test('a hundred in one session suspend the password in that session alone, wherever it asks for one', async () => {
    const user = await registerUser(system());
    const thief = { ...user, accessToken: (await logIn(system(), user.email, user.password)).body.access_token };
    for (let tried = 0; tried < 50; tried += 1) {
      assertProblem(await call(system(), reauthenticate(thief, wrongPassword)), 'invalid_credentials');
      assertProblem(await call(system(), change(thief, wrongPassword)), 'invalid_credentials');
    }
    assert.deepEqual(await suspendedEvents(user), [{ lane: 'session' }]);
    assertProblem(await call(system(), reauthenticate(thief, user.password)), 'invalid_credentials');
    assertProblem(await call(system(), change(thief, user.password)), 'invalid_credentials');
    assert.equal((await call(system(), reauthenticate(user, user.password))).status, 204);
    assert.equal((await logIn(system(), user.email, user.password)).status, 200);
    assert.equal(await mailsTo(user.email), 1);
  });

  test('a hundred from a known device suspend the password there alone', async () => {
    const user = await registerUser(system());
    await inParallel(100, () => logIn(system(), user.email, wrongPassword));
    assertProblem(await logIn(system(), user.email, user.password), 'invalid_credentials');
    assert.equal((await tryLogin(system(), user.email, user.password, newPlace())).status, 200);
    assert.deepEqual(await suspendedEvents(user), [{ lane: 'device' }]);
  });

  test('every spelling of an address counts in the same lane', async () => {
    const [local = ''] = newEmail().split('@');
    const user = await registerUser(system(), { email: `${local}@xn--bcher-kva.example` });
    const spellings = ['bücher.example', 'Bücher.EXAMPLE', 'xn--bcher-kva.example', 'XN--BCHER-KVA.EXAMPLE'];
    for (const domain of spellings) {
      for (const spelling of [local, local.toUpperCase()]) {
        const reply = await tryLogin(system(), `${spelling}@${domain}`, wrongPassword, newPlace());
        assertProblem(reply, 'invalid_credentials');
      }
    }
    assert.deepEqual(await countsOf(user), [2 * spellings.length]);
  });

  test('a right password begins its own lane anew and no other', async () => {
    const user = await registerUser(system());
    await guess(system(), user.email, 3);
    for (let tried = 0; tried < 2; tried += 1) await logIn(system(), user.email, wrongPassword);
    await call(system(), reauthenticate(user, wrongPassword));
    assert.deepEqual(await countsOf(user), [3, 2, 1]);
    await logIn(system(), user.email, user.password);
    assert.deepEqual(await countsOf(user), [3, 1]);
    await call(system(), reauthenticate(user, user.password));
    assert.deepEqual(await countsOf(user), [3]);
    assert.equal((await tryLogin(system(), user.email, user.password, newPlace())).status, 200);
    assert.deepEqual(await countsOf(user), []);
  });

  test('a right password with which nothing could be done counts as no attempt', async () => {
    const user = await registerUser(system());
    assertProblem(await call(system(), change(user, wrongPassword)), 'invalid_credentials');
    const reply = await call(system(), change(user, user.password, 'short'));
    assert.equal(reply.status, 422);
    assert.deepEqual(await countsOf(user), [1]);
  });

  test('parallel guesses compare no more than a hundred, and tell the owner once', async () => {
    const user = await registerUser(system());
    await inParallel(150, () => tryLogin(system(), user.email, wrongPassword, newPlace()));
    const failures = await failuresOf(system(), user.id);
    assert.equal(failures.length, 150);
    assert.equal(failures.filter(({ attempt }) => attempt === 'suspended').length, 50);
    assert.deepEqual([await suspendedEvents(user), await mailsTo(user.email)], [[{ lane: 'public' }], 1]);
    await guess(system(), user.email, 10);
    assert.deepEqual([(await suspendedEvents(user)).length, await mailsTo(user.email)], [1, 1]);
  });

  test('parallel logins with the right password suspend nothing', async () => {
    const user = await registerUser(system());
    const replies = await inParallel(90, () => logIn(system(), user.email, user.password));
    assert.deepEqual(new Set(replies.map(({ status }) => status)), new Set([200]));
    assert.deepEqual([await countsOf(user), await suspendedEvents(user)], [[], []]);
  });

  test('an address without an account is counted like any other, and nobody is told', async () => {
    const email = newEmail();
    const before = await readCounts(system());
    await guessOften(system(), email, 101);
    const known = new Set(before.map(({ lane }) => lane));
    const [row, ...others] = (await readCounts(system())).filter(({ lane }) => !known.has(lane));
    assert.deepEqual([row?.failures, row?.user_id, others.length], [101, null, 0]);
    assert.ok(row?.suspended_at);
    assert.equal(await mailsTo(email), 0);
    // Whoever registers there later starts with nothing of it.
    const user = await registerUser(system(), { email });
    assert.equal((await tryLogin(system(), email, user.password, newPlace())).status, 200);
  });

  test('the owner of a disabled account is not told', async () => {
    const user = await registerUser(system());
    await disableUser(system(), user.id);
    await guessOften(system(), user.email, 101);
    assert.deepEqual([(await suspendedEvents(user)).length, await mailsTo(user.email)], [1, 0]);
  });

  test('a deleted account leaves no count, and the next one at the address starts with none', async () => {
    const user = await registerUser(system());
    await guessOften(system(), user.email, 101);
    const reply = await call(system(), { method: 'DELETE', path: '/users/me', token: user.accessToken });
    assert.equal(reply.status, 204);
    assert.deepEqual(await countsOf(user), []);
    system().clock.advanceSeconds(day);
    const next = await registerUser(system(), { email: user.email });
    assert.equal((await tryLogin(system(), user.email, next.password, newPlace())).status, 200);
  });

  test('a change of address leaves the count behind', async () => {
    const user = await registerUser(system());
    await guessOften(system(), user.email, 101);
    const email = newEmail();
    const path = '/users/me/email';
    assert.equal(
      (await call(system(), { method: 'POST', path, token: user.accessToken, body: { email } })).status,
      202,
    );
    const [mail] = (await subjectsOfMails(system(), email)).filter((line) => line.includes('is your code'));
    const code = mail?.slice(0, 6);
    const proof = { email, purpose: 'email_change', code };
    const { body } = await call(system(), { method: 'POST', path: '/auth/verify-code', body: proof });
    const { verification_token } = body;
    await call(system(), { method: 'PUT', path, token: user.accessToken, body: { verification_token } });
    assert.equal((await tryLogin(system(), email, user.password, newPlace())).status, 200);
    assertProblem(await tryLogin(system(), user.email, user.password, newPlace()), 'invalid_credentials');
  });

  test('a restart keeps the count, and two instances have one', async (t) => {
    const user = await registerUser(system());
    await guessOften(system(), user.email, 60);
    const peer = await startPeer(system());
    t.after(() => peer.close());
    await guessOften(peer, user.email, 40);
    assertProblem(await tryLogin(system(), user.email, user.password, newPlace()), 'invalid_credentials');
    assertProblem(await tryLogin(peer, user.email, user.password, newPlace()), 'invalid_credentials');
  });

  test('a count is forgotten after 30 days, and a suspension a year after the last attempt', async () => {
    const [user, suspended] = [await registerUser(system()), await registerUser(system())];
    await guess(system(), user.email, 5);
    await guessOften(system(), suspended.email, 101);
    const sweep = async (seconds: number) => {
      system().clock.advanceSeconds(seconds);
      await createMaintenance(system().deps).runOnce();
      return [await countsOf(user), await countsOf(suspended)];
    };
    assert.deepEqual(await sweep(30 * day - 1), [[5], [101]]);
    assert.deepEqual(await sweep(200), [[], [101]]);
    await guess(system(), suspended.email, 1);
    assert.deepEqual(await sweep(364 * day), [[], [102]]);
    assert.deepEqual(await sweep(day), [[], []]);
  });

  test('nothing of the address can be read in a count', async () => {
    const email = newEmail();
    await guess(system(), email, 1);
    const rows = await readCounts(system());
    assert.ok(!JSON.stringify(rows).includes(email));
    for (const { lane } of rows) assert.match(lane, /^[\w-]{43}$/);
  });
});

describe('wrong passwords and the secret', () => {
  test('a rotation of the secret keeps the count and the suspension, and tells nobody twice', async (t) => {
    const system = await startSystem('sqlite+memory');
    t.after(() => system.close());
    const [user, suspended] = [await registerUser(system), await registerUser(system)];
    await guessOften(system, user.email, 60);
    await guessOften(system, suspended.email, 101);
    const { environment, secretKeys } = system.deps.config;
    const SECRET_KEY = [randomBytes(48).toString('base64'), ...secretKeys].join(',');
    const rotated = await startSystem('sqlite+memory', { DATA_DIR: environment.DATA_DIR, SECRET_KEY });
    await using _closed = { [Symbol.asyncDispose]: () => rotated.close() };
    await guess(rotated, user.email, 39);
    assert.equal((await tryLogin(rotated, user.email, user.password, newPlace())).status, 200);
    await guessOften(rotated, user.email, 100);
    assertProblem(await tryLogin(rotated, user.email, user.password, newPlace()), 'invalid_credentials');
    assertProblem(await tryLogin(rotated, suspended.email, suspended.password, newPlace()), 'invalid_credentials');
    assert.equal((await eventsOf(rotated, suspended.id, 'password.suspended')).length, 1);
    assert.equal((await eventsOf(rotated, user.id, 'password.suspended')).length, 1);
  });
});

describeOnBackends('wrong passwords when no more are checked', { HASH_QUEUE_MAX: '1', HASH_THREADS: '1' }, (system) => {
  test('what is refused before it is compared counts as no attempt', async () => {
    const user = await registerUser(system());
    const replies = await inParallel(20, () => tryLogin(system(), user.email, wrongPassword, newPlace()));
    const compared = replies.filter(({ status }) => status === 401).length;
    assert.equal(replies.filter(({ status }) => status === 503).length, 20 - compared);
    assert.ok(compared < 20);
    const [row] = (await readCounts(system())).filter(({ user_id }) => user_id === user.id);
    assert.equal(row?.failures, compared);
  });
});
