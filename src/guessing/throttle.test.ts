import assert from 'node:assert/strict';
import { test } from 'node:test';
import { logIn, newEmail, registerUser, type TestUser } from '../../test/accounts.ts';
import { assertProblem, call } from '../../test/client.ts';
import { failuresOf, from, newPlace, type Place, readCounts, tryLogin, wrongPassword } from '../../test/guessing.ts';
import { newPassword, prove, reset } from '../../test/password-reset.ts';
import { inLanes, inParallel } from '../../test/races/races.ts';
import { describeOnBackends, type System, startPeer } from '../../test/system.ts';
import { howOften } from '../../test/thorough.ts';
import { AppError } from '../errors.ts';
import { logIn as logInFlow } from '../login/flow.ts';

// After the twentieth they are all the same.
const strangers = howOften({ brief: 200, thorough: 1_000 });
const signal = AbortSignal.timeout(600_000);

describeOnBackends('the throttle of guesses', { RATE_LIMITS: 'on', HASH_QUEUE_MAX: '2000' }, (system, backend) => {
  /** Tries a password below the limits that HTTP sets each client; says whether it logged in. */
  async function attempt(
    user: Pick<TestUser, 'email'>,
    password: string,
    place: Place,
    at = system(),
  ): Promise<boolean> {
    const { remoteAddress = '127.0.0.1', userAgent = 'lightMyRequest' } = place;
    try {
      const context = { requestId: '', clientAddress: remoteAddress, userAgent, signal };
      await logInFlow(at.deps, { email: user.email, password }, context);
      return true;
    } catch (error) {
      assert.ok(error instanceof AppError && error.code === 'invalid_credentials', String(error));
      return false;
    }
  }

  /** How many of a user's failed attempts were compared. */
  async function comparedOf(user: TestUser): Promise<number> {
    return (await failuresOf(system(), user.id)).filter(({ attempt }) => attempt !== 'throttled').length;
  }

  // Registered from a client of its own, because all clients have limits here.
  async function registerAnywhere(at: System = system()): Promise<TestUser> {
    const email = newEmail();
    const place = { ...newPlace(), userAgent: 'the owner' };
    const send = { method: 'POST', path: '/auth/send-code', body: { email, purpose: 'registration' } } as const;
    await call(at, from(send, place));
    await at.deps.outbox.deliverDue();
    const code = at.deps.mailbox
      ?.list()
      .find(({ to }) => to === email)
      ?.subject.slice(0, 6);
    const body = { email, purpose: 'registration', code };
    const proof = await call(at, from({ method: 'POST', path: '/auth/verify-code', body }, place));
    const password = 'correct horse battery staple';
    const registration = { verification_token: proof.body.verification_token, password };
    const reply = await call(at, from({ method: 'POST', path: '/auth/register', body: registration }, place));
    assert.equal(reply.status, 201, reply.text);
    const { user, access_token: accessToken, refresh_token: refreshToken } = reply.body;
    homes.set(user.id, place);
    return { id: user.id, email, password, accessToken, refreshToken };
  }
  const homes = new Map<string, Place>();
  const homeOf = (user: TestUser) => homes.get(user.id) ?? {};

  test('five guesses of one client are compared, then one after each wait, which doubles up to 15 minutes', async () => {
    const user = await registerAnywhere();
    const place = newPlace();
    for (let tried = 0; tried < 10; tried += 1) await attempt(user, wrongPassword, place);
    assert.equal(await comparedOf(user), 5);
    let compared = 5;
    for (const waitSeconds of [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]) {
      system().clock.advanceSeconds(waitSeconds - 0.001);
      await attempt(user, wrongPassword, place);
      assert.equal(await comparedOf(user), compared, 'it is a millisecond too early');
      system().clock.advanceSeconds(0.001);
      await attempt(user, wrongPassword, place);
      compared += 1;
      assert.equal(await comparedOf(user), compared);
    }
  });

  test('while a client has to wait not even the right password is right, and afterwards it begins anew', async () => {
    const user = await registerAnywhere();
    const place = newPlace();
    for (let tried = 0; tried < 6; tried += 1) await attempt(user, wrongPassword, place);
    assert.equal(await attempt(user, user.password, place), false);
    assert.equal(await attempt(user, user.password, newPlace()), true, 'another client has a wait of its own');
    system().clock.advanceSeconds(2);
    assert.equal(await attempt(user, user.password, place), true);
    const elsewhere = newPlace();
    for (let tried = 0; tried < 4; tried += 1) await attempt(user, wrongPassword, elsewhere);
    assert.equal(await attempt(user, user.password, elsewhere), true);
    for (let tried = 0; tried < 4; tried += 1) await attempt(user, wrongPassword, elsewhere);
    assert.equal(await attempt(user, user.password, elsewhere), true);
  });

  test('50 parallel guesses of one client compare five, and of 50 clients twenty', async () => {
    const [alone, among] = [await registerAnywhere(), await registerAnywhere()];
    const place = newPlace();
    await inParallel(50, () => attempt(alone, wrongPassword, place));
    assert.equal(await comparedOf(alone), 5);
    await inParallel(50, () => attempt(among, wrongPassword, newPlace()));
    assert.equal(await comparedOf(among), 20);
    system().clock.advanceSeconds(0.999);
    assert.equal(await attempt(among, among.password, newPlace()), false);
    system().clock.advanceSeconds(0.001);
    assert.equal(await attempt(among, among.password, newPlace()), true);
  });

  test('an attempt that has to wait counts nowhere', async () => {
    const user = await registerAnywhere();
    const place = newPlace();
    for (let tried = 0; tried < 60; tried += 1) await attempt(user, wrongPassword, place);
    const counts = (await readCounts(system())).filter(({ user_id }) => user_id === user.id);
    assert.deepEqual(
      counts.map(({ failures }) => failures),
      [5],
    );
    // The count of all strangers together did not grow either: fifteen are left of its twenty.
    await inParallel(30, () => attempt(user, wrongPassword, newPlace()));
    assert.equal(await comparedOf(user), 20);
  });

  test('the owner’s known device and live session go on while strangers guess, and so does a code', async () => {
    const user = await registerAnywhere();
    let turn = 0;
    await inLanes(20, strangers, async () => {
      turn += 1;
      if (turn % 100 === 0) assert.equal(await attempt(user, user.password, homeOf(user)), true);
      else assert.equal(await attempt(user, wrongPassword, newPlace()), false);
    });
    assert.equal(await comparedOf(user), 20);
    const phone = newPlace();
    assert.equal(await attempt(user, user.password, phone), false);
    const body = { password: user.password };
    const again = { method: 'POST', path: '/auth/reauthenticate', token: user.accessToken, body } as const;
    assert.equal((await call(system(), from(again, phone))).status, 204);
    const verification_token = await prove(system(), user.email, 'login');
    const byCode = { method: 'POST', path: '/auth/login/code', body: { verification_token } } as const;
    assert.equal((await call(system(), from(byCode, phone))).status, 200);
    assert.equal(await attempt(user, user.password, phone), true, 'which makes it a known device');
  });

  test('twenty parallel logins with the right password from a known device all succeed', async () => {
    const user = await registerAnywhere();
    const outcomes = await inParallel(20, () => attempt(user, user.password, homeOf(user)));
    assert.deepEqual(new Set(outcomes), new Set([true]));
    assert.equal(await attempt(user, user.password, homeOf(user)), true);
  });

  test('of forty parallel ones from a device that is not known five or more succeed, and then all do', async () => {
    const user = await registerAnywhere();
    const place = newPlace();
    const outcomes = await inParallel(40, () => attempt(user, user.password, place));
    assert.ok(outcomes.filter(Boolean).length >= 5);
    for (let login = 0; login < 10; login += 1) assert.equal(await attempt(user, user.password, place), true);
    assert.deepEqual(
      (await readCounts(system())).filter(({ user_id }) => user_id === user.id),
      [],
    );
  });

  test('a reset ends every wait at every instance', async (t) => {
    const peer = await startPeer(system());
    t.after(() => peer.close());
    const user = await registerAnywhere();
    const place = newPlace();
    for (const at of [system(), peer]) {
      for (let tried = 0; tried < 8; tried += 1) await attempt(user, wrongPassword, place, at);
      await inParallel(20, () => attempt(user, wrongPassword, newPlace(), at));
    }
    assert.equal((await call(system(), reset(await prove(system(), user.email)))).status, 204);
    assert.equal(await attempt({ email: user.email }, newPassword, place, peer), true);
    assert.equal(await attempt({ email: user.email }, newPassword, newPlace()), true);
  });

  if (backend === 'postgres+redis') {
    test('two instances that share Redis let no more through than one', async (t) => {
      const peer = await startPeer(system());
      t.after(() => peer.close());
      const user = await registerAnywhere();
      const place = newPlace();
      await inParallel(40, (index) => attempt(user, wrongPassword, place, index % 2 === 0 ? system() : peer));
      assert.equal(await comparedOf(user), 5);
    });
  }

  test('who has to wait is told nothing of it, and an address without an account makes wait alike', async () => {
    const user = await registerAnywhere();
    for (const email of [user.email, newEmail()]) {
      const place = newPlace();
      const replies = [];
      for (let tried = 0; tried < 10; tried += 1) {
        replies.push(await tryLogin(system(), email, wrongPassword, place));
      }
      for (const reply of replies) assertProblem(reply, 'invalid_credentials');
      const headersOf = (headers: Record<string, unknown>) => ({ ...headers, ratelimit: '', date: '' });
      const seen = new Set(replies.map(({ headers }) => JSON.stringify(headersOf(headers))));
      assert.equal(seen.size, 1);
    }
    const unknown = (await failuresOf(system(), null)).slice(-10);
    assert.deepEqual(
      unknown.map(({ attempt }) => attempt === 'throttled'),
      [false, false, false, false, false, true, true, true, true, true],
    );
  });
});

describeOnBackends('the throttle of guesses where limits are off', {}, (system) => {
  test('is off with them', async () => {
    const user = await registerUser(system());
    for (let tried = 0; tried < 30; tried += 1) await logIn(system(), user.email, wrongPassword);
    assert.equal((await logIn(system(), user.email, user.password)).status, 200);
  });
});

describeOnBackends('the throttle of guesses where limits are changed', { RATE_LIMITS: 'login=1000/m/ip' }, (system) => {
  test('stays on', async () => {
    const user = await registerUser(system());
    const place = newPlace();
    for (let tried = 0; tried < 5; tried += 1) await tryLogin(system(), user.email, wrongPassword, place);
    assertProblem(await tryLogin(system(), user.email, user.password, place), 'invalid_credentials');
    system().clock.advanceSeconds(1);
    assert.equal((await tryLogin(system(), user.email, user.password, place)).status, 200);
  });
});
