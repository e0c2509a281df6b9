import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { createClient, isLatchkeyError, type LatchkeyClient, LatchkeyError } from '../../client/src/index.ts';
import { goodPassword, newEmail, newestMail, registerUser } from '../accounts.ts';
import { giveRole } from '../administrators.ts';
import { describeOnBackends } from '../system.ts';
import { countSeen, type Doorway, listen, newClient, openDoorway, unavailable } from './doorway.ts';

const newPassword = 'another horse battery staple';

describeOnBackends('the calls of a client', {}, (system) => {
  let doorway: Doorway;
  let client: LatchkeyClient;

  before(async () => {
    doorway = await openDoorway(await listen(system()));
  });
  after(() => doorway.close());
  beforeEach(() => {
    doorway.treat(() => 'serve');
    doorway.seen.length = 0;
    client = newClient(system(), doorway);
  });

  type Purpose = 'registration' | 'login' | 'password_reset';

  /** Proves an address as a person would: with the code from the mail. */
  async function prove(email: string, purpose: Purpose): Promise<string> {
    // One mail a minute goes to an address.
    system().clock.advanceSeconds(61);
    await client.sendCode({ email, purpose });
    const code = (await newestMail(system(), email))?.subject.slice(0, 6) ?? '';
    return (await client.verifyCode({ email, purpose, code })).verification_token;
  }

  test('an account is made, left, entered by code and by password, and deleted', async () => {
    const email = newEmail();
    const verification_token = await prove(email, 'registration');
    const user = await client.register({ verification_token, password: goodPassword, name: 'Ada' });
    assert.equal(user.email, email);
    assert.equal((await client.updateMe({ metadata: { plan: 'free' } })).metadata.plan, 'free');
    await client.logOut();
    assert.equal(await client.isSignedIn(), false);

    await client.logInWithCode({ verification_token: await prove(email, 'login') });
    assert.equal((await client.getMe()).id, user.id);
    await client.changePassword({ current_password: goodPassword, new_password: newPassword });
    await client.logIn({ email, password: newPassword });
    assert.equal((await client.listMySessions()).items.length, 2);
    await client.endMyOtherSessions();
    const [session] = (await client.listMySessions({ limit: 10 })).items;
    assert.equal(session?.current, true);

    const endings: string[] = [];
    client.onSignedOut((reason) => endings.push(reason));
    await client.deleteMe();
    assert.deepEqual(endings, ['account_deleted']);
    await assert.rejects(client.logIn({ email, password: newPassword }), (error) =>
      isLatchkeyError(error, 'invalid_credentials'),
    );
  });

  test('a forgotten password is replaced with a code', async () => {
    const { email } = await registerUser(system());
    const verification_token = await prove(email, 'password_reset');
    await client.resetPassword({ verification_token, new_password: newPassword });
    assert.equal((await client.logIn({ email, password: newPassword })).email, email);
  });

  test('what needs a recent authentication says how recent, and is done after one', async () => {
    const { email, id } = await registerUser(system());
    await client.logIn({ email, password: goodPassword });
    system().clock.advanceSeconds(600);
    const refused = await client.request('GET /users/me/export').catch((error: unknown) => error);
    assert.ok(isLatchkeyError(refused, 'insufficient_user_authentication'));
    assert.equal(refused.status, 401);
    assert.equal(refused.problem?.max_age, 300);
    assert.equal(countSeen(doorway, 'GET /users/me/export'), 1, 'a refusal that a new token cannot mend is final');
    await client.reauthenticate({ password: goodPassword });
    assert.equal((await client.request('GET /users/me/export')).user.id, id);
  });

  test('administration is reached by method and path, and refused without the permission', async () => {
    const { id, email } = await registerUser(system());
    await client.logIn({ email, password: goodPassword });
    const refused = await client.request('GET /users').catch((error: unknown) => error);
    assert.ok(isLatchkeyError(refused, 'insufficient_permission'));
    assert.equal(refused.status, 403);

    await giveRole(system(), id, 'admin');
    const name = `editor-${id}`;
    await client.request('PUT /roles/{name}', {
      path: { name },
      body: { description: 'Edits', permissions: ['app:notes:read'] },
    });
    await client.request('PUT /users/{id}/roles', { path: { id }, body: { roles: ['admin', name] } });
    const page = await client.request('GET /users', { query: { role: name, limit: 1 } });
    assert.deepEqual(
      page.items.map((user) => user.id),
      [id],
    );
  });

  test('a refused field is named, and the request is in the log under its id', async () => {
    const refused = await client.logIn({ email: newEmail(), password: '' }).catch((error: unknown) => error);
    assert.ok(refused instanceof LatchkeyError);
    assert.equal(refused.code, 'validation_failed');
    assert.deepEqual(
      refused.problem?.errors?.map(({ path }) => path),
      ['/password'],
    );
    assert.match(refused.problem.request_id, /./);
  });

  test('the seconds of Retry-After are told, and nothing is sent again', async () => {
    const { email } = await registerUser(system());
    doorway.treat(() => ({ ...unavailable, headers: { 'retry-after': '7' } }));
    const refused = await client.logIn({ email, password: goodPassword }).catch((error: unknown) => error);
    assert.ok(isLatchkeyError(refused, 'temporarily_unavailable'));
    assert.equal(refused.retryAfterSeconds, 7);
    assert.deepEqual(doorway.seen, ['POST /auth/login']);
  });

  test('a change whose answer is lost is not made twice', async () => {
    const { email } = await registerUser(system());
    await client.logIn({ email, password: goodPassword });
    doorway.treat(() => 'lose_answer');
    await assert.rejects(client.updateMe({ name: 'Ada' }), (error) => isLatchkeyError(error, 'network_error'));
    assert.equal(countSeen(doorway, 'PATCH /users/me'), 1);
  });

  test('a call ends by its own time limit, and by the signal of its caller with its reason', async () => {
    doorway.treat(() => new Promise(() => {}));
    await assert.rejects(client.request('GET /health/live', { timeoutMs: 20 }), (error) =>
      isLatchkeyError(error, 'timeout'),
    );
    const reason = new Error('closed');
    const signal = AbortSignal.abort(reason);
    await assert.rejects(client.request('GET /health/live', { signal }), (error) => error === reason);
    assert.equal(doorway.seen.length, 1, 'what was given up before was not sent');
  });

  test('a time limit that no timer can keep is refused', async () => {
    for (const timeoutMs of [0, -1, 1.5, Number.NaN, 2 ** 31]) {
      assert.throws(() => createClient({ baseUrl: doorway.origin, timeoutMs }), RangeError);
      await assert.rejects(client.getMe({ timeoutMs }), RangeError);
    }
  });

  test('a parameter that would change the path is refused and sent nowhere', async () => {
    const { email } = await registerUser(system());
    await client.logIn({ email, password: goodPassword });
    doorway.seen.length = 0;
    for (const id of ['', '.', '..']) await assert.rejects(client.endMySession(id), TypeError);
    await assert.rejects(client.endMySession('../email'), (error) => isLatchkeyError(error, 'validation_failed'));
    assert.deepEqual(doorway.seen, ['DELETE /users/me/sessions/..%2Femail']);
  });

  test('a redirect is not followed, so the token goes nowhere else', async () => {
    const { email } = await registerUser(system());
    await client.logIn({ email, password: goodPassword });
    doorway.treat(() => ({ status: 307, headers: { location: '/elsewhere' }, body: '' }));
    await assert.rejects(client.getMe(), (error) => isLatchkeyError(error, 'network_error'));
    assert.equal(countSeen(doorway, 'GET /elsewhere'), 0);
  });

  test('an address of a service that is not one is refused', () => {
    for (const baseUrl of [
      'auth.example.com',
      'ftp://auth.example.com',
      'https://a:b@auth.example.com',
      'https://a/?b',
    ]) {
      assert.throws(() => createClient({ baseUrl }), TypeError);
    }
  });
});
