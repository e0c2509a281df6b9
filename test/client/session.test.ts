import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import {
  isLatchkeyError,
  type LatchkeyClient,
  memoryTokens,
  type SignedOutReason,
  type StoredTokens,
  type TokenStorage,
} from '../../client/src/index.ts';
import { goodPassword, refresh, registerUser, type TestUser } from '../accounts.ts';
import { describeOnBackends } from '../system.ts';
import { until } from '../until.ts';
import { countSeen, type Doorway, listen, listGenerations, newClient, openDoorway, unavailable } from './doorway.ts';

const ttlSeconds = 600;
const refreshing = 'POST /auth/refresh';

describeOnBackends('the session of a client', { ACCESS_TOKEN_TTL_SECONDS: String(ttlSeconds) }, (system) => {
  let doorway: Doorway;
  let user: TestUser;

  before(async () => {
    doorway = await openDoorway(await listen(system()));
  });
  after(() => doorway.close());
  beforeEach(async () => {
    doorway.treat(() => 'serve');
    doorway.seen.length = 0;
    user = await registerUser(system());
  });

  /** Signs the user in with a new client, and notes why that ends. */
  async function signIn(storage: TokenStorage = memoryTokens()) {
    const client = newClient(system(), doorway, { storage });
    const endings: SignedOutReason[] = [];
    client.onSignedOut((reason) => endings.push(reason));
    await client.logIn({ email: user.email, password: goodPassword });
    return { client, storage, endings };
  }
  const expire = () => system().clock.advanceSeconds(ttlSeconds);
  const generations = () => listGenerations(system(), user.email);
  const read = (storage: TokenStorage) => storage.read() as StoredTokens | undefined;

  /** Lets no refresh through until it is told to. */
  function holdRefreshes(): PromiseWithResolvers<void> {
    const gate = Promise.withResolvers<void>();
    doorway.treat((request) => (request === refreshing ? gate.promise.then(() => 'serve' as const) : 'serve'));
    return gate;
  }

  /** Ends the session on the service as its owner would from another device. */
  async function endElsewhere(client: LatchkeyClient): Promise<void> {
    const me = await client.getMe();
    await system().deps.db.deleteFrom('sessions').where('user_id', '=', me.id).execute();
    await system().deps.sessionCache?.block(me.id);
  }

  test('fifty parallel calls with an expired token make one refresh', async () => {
    const { client } = await signIn();
    expire();
    const answers = await Promise.all(Array.from({ length: 50 }, () => client.getMe()));
    assert.equal(new Set(answers.map(({ id }) => id)).size, 1);
    assert.equal(countSeen(doorway, refreshing), 1);
    assert.deepEqual((await generations()).sort(), [0, 1]);
  });

  test('a token that this clock takes for fresh and the service does not is replaced once for all calls', async () => {
    const { client } = await signIn(memoryTokens());
    const skewed = newClient(system(), doorway, { storage: memoryTokens(), now: () => 0 });
    await skewed.logIn({ email: user.email, password: goodPassword });
    expire();
    await Promise.all(Array.from({ length: 20 }, () => skewed.getMe()));
    assert.equal(countSeen(doorway, refreshing), 1);
    assert.equal(await client.isSignedIn(), true);
  });

  test('a clock that was put back does not make an old token fresh', async () => {
    const storage = memoryTokens();
    let nowMs = system().clock.now();
    const client = newClient(system(), doorway, { storage, now: () => nowMs });
    await client.logIn({ email: user.email, password: goodPassword });
    nowMs -= 3_600_000;
    await client.getMe();
    assert.equal(countSeen(doorway, refreshing), 1);
  });

  test('shortly before the token expires a call uses it and renews it on the side', async () => {
    const { client, storage } = await signIn();
    const first = read(storage)?.access_token;
    system().clock.advanceSeconds(ttlSeconds - 30);
    doorway.treat((request) => (request === refreshing ? unavailable : 'serve'));
    assert.equal(await client.getAccessToken(), first);
    await client.getMe();
    doorway.treat(() => 'serve');
    await until(() => read(storage)?.access_token !== first);
    assert.equal(await client.getAccessToken(), read(storage)?.access_token);
  });

  test('an answer to a refresh that is lost on the way is asked for again, and signs nobody out', async () => {
    const { client, endings } = await signIn();
    expire();
    doorway.treat((request) => {
      return request === refreshing && countSeen(doorway, refreshing) <= 2 ? 'lose_answer' : 'serve';
    });
    assert.equal((await client.getMe()).id, user.id);
    assert.equal(countSeen(doorway, refreshing), 3);
    assert.deepEqual((await generations()).sort(), [0, 1]);
    assert.deepEqual(endings, []);
  });

  test('without a grace of the service a lost answer is not asked for again, which would look like theft', async () => {
    const client = newClient(system(), doorway, { reuseGraceSeconds: 0 });
    await client.logIn({ email: user.email, password: goodPassword });
    expire();
    doorway.treat((request) => (request === refreshing ? 'lose_answer' : 'serve'));
    await assert.rejects(client.getMe(), (error) => isLatchkeyError(error, 'network_error'));
    assert.equal(countSeen(doorway, refreshing), 1);
    assert.equal(await client.isSignedIn(), true);
  });

  for (const [what, answer] of Object.entries({
    'a 503': unavailable,
    'a page of a proxy': { status: 502, body: '<h1>Bad Gateway</h1>' },
    'a 200 that is not of the service': { status: 200, body: '<h1>Welcome to the Wi-Fi</h1>' },
    'a 401 that is not of the service': { status: 401, body: 'Unauthorized' },
  })) {
    test(`${what} in answer to a refresh keeps the tokens, and the next call succeeds`, async () => {
      const { client, storage, endings } = await signIn();
      expire();
      const held = read(storage);
      doorway.treat((request) => (request === refreshing ? answer : 'serve'));
      await assert.rejects(client.getMe({ timeoutMs: 50 }), (error) => isLatchkeyError(error, 'timeout'));
      assert.deepEqual(read(storage), held);
      doorway.treat(() => 'serve');
      assert.equal((await client.getMe()).id, user.id);
      assert.deepEqual(endings, []);
    });
  }

  test('a session that was ended elsewhere signs out once, however many calls find out', async () => {
    const { client, storage, endings } = await signIn();
    await endElsewhere(client);
    const results = await Promise.allSettled([client.getMe(), client.listMySessions(), client.getMe()]);
    const codes = results.map((result) => result.status === 'rejected' && result.reason.code);
    // Whoever asks after it was found out is told that nobody is signed in.
    assert.ok(codes.includes('invalid_refresh_token'));
    assert.ok(
      codes.every((code) => code === 'invalid_refresh_token' || code === 'signed_out'),
      codes.join(),
    );
    assert.equal(read(storage), undefined);
    assert.deepEqual(endings, ['invalid_refresh_token']);
    await assert.rejects(client.getMe(), (error) => isLatchkeyError(error, 'signed_out'));
  });

  test('a refresh token that somebody else has used is reported by its code', async () => {
    const { client, storage, endings } = await signIn();
    const stolen = read(storage)?.refresh_token ?? '';
    const { body } = await refresh(system(), stolen);
    await refresh(system(), body.refresh_token);
    expire();
    await assert.rejects(client.getMe(), (error) => isLatchkeyError(error, 'refresh_token_reused'));
    assert.deepEqual(endings, ['refresh_token_reused']);
    assert.equal(read(storage), undefined);
  });

  test('a call that is given up does not take the refresh of the others with it', async () => {
    const { client } = await signIn();
    expire();
    const gate = holdRefreshes();
    const caller = new AbortController();
    const given = client.getMe({ signal: caller.signal });
    const kept = client.getMe();
    await until(() => countSeen(doorway, refreshing) === 1);
    caller.abort(new Error('the page was left'));
    await assert.rejects(given, /the page was left/);
    gate.resolve();
    assert.equal((await kept).id, user.id);
    assert.equal(countSeen(doorway, refreshing), 1);
  });

  test('who signs out while a refresh is under way stays signed out', async () => {
    const { client, storage, endings } = await signIn();
    expire();
    const gate = holdRefreshes();
    const call = client.getMe();
    call.catch(() => {});
    await until(() => countSeen(doorway, refreshing) === 1);
    const leaving = client.logOut();
    gate.resolve();
    await leaving;
    await assert.rejects(call, (error) => isLatchkeyError(error, 'signed_out', 'invalid_refresh_token'));
    assert.equal(read(storage), undefined);
    assert.deepEqual(endings, ['logout']);
    assert.deepEqual(await generations(), [0], 'only the session of the registration is left');
  });

  test('who signs in anew while a refresh is under way keeps the new session, in which no older call is made', async () => {
    const { client, storage } = await signIn();
    expire();
    const gate = holdRefreshes();
    const call = client.updateMe({ name: 'Ada' });
    call.catch(() => {});
    await until(() => countSeen(doorway, refreshing) === 1);
    const other = await registerUser(system());
    await client.logIn({ email: other.email, password: goodPassword });
    const held = read(storage);
    gate.resolve();
    await assert.rejects(call, (error) => isLatchkeyError(error, 'signed_out'));
    assert.deepEqual(read(storage), held);
    assert.equal((await client.getMe()).name, null);
    assert.equal(countSeen(doorway, 'PATCH /users/me'), 0);
  });

  test('signing out forgets the tokens also where the service cannot be told', async () => {
    const { client, storage, endings } = await signIn();
    doorway.treat(() => unavailable);
    await assert.rejects(client.logOut({ timeoutMs: 50 }), (error) => isLatchkeyError(error, 'timeout'));
    assert.equal(read(storage), undefined);
    assert.deepEqual(endings, ['logout']);
    // The service is told as soon as it listens.
    doorway.treat(() => 'serve');
    await until(async () => (await generations()).length === 1);
  });

  test('a storage that takes nothing leaves the session usable and says so', async () => {
    const failed: string[] = [];
    const storage = { ...memoryTokens(), write: () => Promise.reject(new Error('the disk is full')) };
    const client = newClient(system(), doorway, { storage });
    client.onStorageFailed(({ code }) => failed.push(code));
    await client.logIn({ email: user.email, password: goodPassword });
    expire();
    await client.getMe();
    expire();
    await client.getMe();
    assert.deepEqual((await generations()).sort(), [0, 2]);
    assert.deepEqual(failed, ['storage_failed', 'storage_failed', 'storage_failed']);
    await client.logOut();
    assert.equal(await client.isSignedIn(), false);
  });

  test('a storage that cannot be read fails the call and signs nobody out', async () => {
    const storage = memoryTokens();
    let isBroken = false;
    const brittle: TokenStorage = {
      ...storage,
      read: () => (isBroken ? Promise.reject(new Error('blocked')) : storage.read()),
    };
    const { client, endings } = await signIn(brittle);
    isBroken = true;
    await assert.rejects(client.getMe(), (error) => isLatchkeyError(error, 'storage_failed'));
    isBroken = false;
    assert.equal((await client.getMe()).id, user.id);
    assert.deepEqual(endings, []);
  });

  test('a storage that keeps what it should remove does not bring the session back', async () => {
    const storage = memoryTokens();
    const { client } = await signIn({ ...storage, remove: () => Promise.reject(new Error('blocked')) });
    await client.logOut();
    assert.notEqual(read(storage), undefined);
    assert.equal(await client.isSignedIn(), false);
    await assert.rejects(client.getMe(), (error) => isLatchkeyError(error, 'signed_out'));
  });

  test('what is stored and is no record of tokens is sent nowhere', async () => {
    const record = { session: '1', access_token: 'a', refresh_token: 'v1.a', obtained_at: 0, expires_in: 1 };
    for (const wrong of [{ access_token: 'a\r\nb' }, { refresh_token: 'r'.repeat(129) }, { expires_in: '1' }]) {
      const storage: TokenStorage = { ...memoryTokens(), read: () => ({ ...record, ...wrong }) };
      const client = newClient(system(), doorway, { storage });
      await assert.rejects(client.getMe(), (error) => isLatchkeyError(error, 'signed_out'));
    }
    assert.deepEqual(doorway.seen, []);
  });

  for (const [how, hasLocks] of Object.entries({ 'with locks': true, 'without locks': false })) {
    test(`two clients that share a storage stay signed in, ${how}`, async (t) => {
      if (!hasLocks) hideLocks(t);
      const shared = { ...memoryTokens(), name: `shared-${user.id}` };
      const { client, endings } = await signIn(shared);
      const other = newClient(system(), doorway, { storage: shared });
      for (let round = 0; round < 5; round += 1) {
        expire();
        await Promise.all([client, other].flatMap((each) => [each.getMe(), each.getMe()]));
      }
      assert.equal((await generations()).includes(5), true, 'each expiry moved the session on once');
      if (hasLocks) assert.equal(countSeen(doorway, refreshing), 5);
      assert.deepEqual(endings, []);
      const told = Promise.withResolvers<SignedOutReason>();
      other.onSignedOut(told.resolve);
      await client.logOut();
      assert.equal(await told.promise, 'logout');
      client.close();
      other.close();
    });
  }
});

/** Takes the Web Locks away, as in a browser that has none. */
function hideLocks(t: { after(work: () => void): void }): void {
  Object.defineProperty(navigator, 'locks', { value: undefined, configurable: true });
  t.after(() => Reflect.deleteProperty(navigator, 'locks'));
}
