import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openSession, readMe, refresh, registerUser, type TestUser } from '../../test/accounts.ts';
import { assertProblem, assertRefused, type Call, call, takeStock } from '../../test/client.ts';
import { describeOnBackends } from '../../test/system.ts';

const day = 24 * 60 * 60;
const unknownId = '01978f6e-5c1a-7d2e-9b7a-2f8d1c3e4a5b';

describeOnBackends('one’s own sessions', {}, (system) => {
  function list(user: TestUser, query = ''): Call {
    return { method: 'GET', path: `/users/me/sessions${query}`, token: user.accessToken };
  }

  function end(user: TestUser, id: string): Call {
    return { method: 'DELETE', path: `/users/me/sessions/${id}`, token: user.accessToken };
  }

  function endOthers(user: TestUser): Call {
    return { method: 'DELETE', path: '/users/me/sessions', token: user.accessToken };
  }

  function sessionId(user: TestUser): string {
    return user.refreshToken.split('.')[1] ?? '';
  }

  async function listIds(user: TestUser, query = ''): Promise<string[]> {
    const reply = await call(system(), list(user, query));
    assert.equal(reply.status, 200, reply.text);
    return reply.body.items.map((item: { id: string }) => item.id);
  }

  /** Opens sessions a second apart, the oldest first; the first one is that of the registration. */
  async function openSessions(count: number): Promise<[TestUser, ...TestUser[]]> {
    const user = await registerUser(system());
    const sessions: [TestUser, ...TestUser[]] = [user];
    while (sessions.length < count) {
      system().clock.advanceSeconds(1);
      sessions.push(await openSession(system(), user));
    }
    return sessions;
  }

  async function assertDead(session: TestUser): Promise<void> {
    assertProblem(await readMe(system(), session.accessToken), 'invalid_token');
    assertProblem(await refresh(system(), session.refreshToken), 'invalid_refresh_token');
  }

  async function eventsOf(userId: string, type: string) {
    const query = system().deps.db.selectFrom('audit_events').select('details').where('user_id', '=', userId);
    return (await query.where('type', '=', type).execute()).map(({ details }) => JSON.parse(details));
  }

  test('a session is listed with where and when, and with nothing of its tokens', async () => {
    const user = await registerUser(system());
    const createdAt = new Date(system().clock.now()).toISOString();
    system().clock.advanceSeconds(60);
    const { body: tokens } = await refresh(system(), user.refreshToken);
    const usedAt = new Date(system().clock.now()).toISOString();
    const reply = await call(system(), { ...list(user), token: tokens.access_token });
    assert.equal(reply.status, 200);
    assert.equal(reply.headers['cache-control'], 'no-store');
    assert.deepEqual(reply.body, {
      items: [
        {
          id: sessionId(user),
          current: true,
          device: null,
          user_agent: 'lightMyRequest',
          client_address: '127.0.0.1',
          created_at: createdAt,
          last_used_at: usedAt,
          authenticated_at: createdAt,
          expires_at: new Date(system().clock.now() + 7 * day * 1000).toISOString(),
        },
      ],
      next_cursor: null,
    });
  });

  test('the newest login comes first, and the session that asks is the current one', async () => {
    const sessions = await openSessions(3);
    const newestFirst = sessions.map(sessionId).reverse();
    for (const session of sessions) {
      const { body } = await call(system(), list(session));
      assert.deepEqual(
        body.items.map((item: { id: string }) => item.id),
        newestFirst,
      );
      const current = body.items.filter((item: { current: boolean }) => item.current);
      assert.deepEqual(
        current.map((item: { id: string }) => item.id),
        [sessionId(session)],
      );
    }
  });

  test('a device is named as a person would name it, and not at all where that is a guess', async () => {
    const user = await registerUser(system());
    const devices: [string, string | null, string][] = [
      ['Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0', 'Firefox on Linux', '192.0.2.1'],
      [
        'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36',
        'Chrome on Windows',
        '2001:db8::1',
      ],
      [
        'Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1',
        'Safari on iOS',
        '::ffff:198.51.100.7',
      ],
      ['curl/8.5.0', null, '192.0.2.2'],
      ['', null, '192.0.2.3'],
    ];
    const seen = [];
    for (const [userAgent, , remoteAddress] of devices) {
      system().clock.advanceSeconds(1);
      const body = { email: user.email, password: user.password };
      const headers = { 'user-agent': userAgent };
      const login = await call(system(), { method: 'POST', path: '/auth/login', body, headers, remoteAddress });
      const reply = await call(system(), { ...list(user, '?limit=1'), token: login.body.access_token });
      const [item] = reply.body.items;
      seen.push([item.device, item.client_address]);
    }
    assert.deepEqual(
      seen,
      devices.map(([, device, address]) => [device, address.replace('::ffff:', '')]),
    );
  });

  for (const limit of [1, 2, 3]) {
    test(`pages of ${limit} hold every session once`, async () => {
      const sessions = await openSessions(7);
      const [user] = sessions;
      const seen: string[] = [];
      const sizes: number[] = [];
      let cursor: string | null = '';
      for (let page = 0; page < 8 && cursor !== null; page += 1) {
        const query: string = `?limit=${limit}${cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`}`;
        const { body } = await call(system(), list(user, query));
        seen.push(...body.items.map((item: { id: string }) => item.id));
        sizes.push(body.items.length);
        cursor = body.next_cursor;
      }
      assert.deepEqual(seen, sessions.map(sessionId).reverse());
      assert.equal(cursor, null);
      assert.deepEqual(new Set(sizes.slice(0, -1)), new Set([limit]));
      assert.equal(sizes.length, Math.ceil(7 / limit), 'the last page says that it is the last');
    });
  }

  test('sessions that were opened in the same millisecond are paged without a gap too', async () => {
    const user = await registerUser(system());
    for (let login = 0; login < 6; login += 1) await openSession(system(), user);
    const seen: string[] = [];
    for (let cursor: string | null = ''; cursor !== null; ) {
      const query: string = `?limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`;
      const { body } = await call(system(), list(user, query));
      seen.push(...body.items.map((item: { id: string }) => item.id));
      cursor = body.next_cursor;
    }
    assert.deepEqual(seen, await listIds(user));
    assert.equal(new Set(seen).size, 7);
  });

  test('a session that ends or begins between two pages makes neither a gap nor a repetition', async () => {
    const sessions = await openSessions(7);
    const [user, second, , , fifth, sixth, seventh] = sessions;
    const first = await call(system(), list(user, '?limit=2'));
    assert.ok(second && fifth && sixth && seventh);
    // One from the page that was read, the one that its cursor stands on, and one that is still to come.
    for (const session of [seventh, sixth, second]) {
      assert.equal((await call(system(), end(user, sessionId(session)))).status, 204);
    }
    system().clock.advanceSeconds(1);
    await openSession(system(), user);
    const rest = await listIds(user, `?limit=50&cursor=${first.body.next_cursor}`);
    const expected = sessions.slice(0, 5).filter((session) => session !== second);
    assert.deepEqual(rest, expected.map(sessionId).reverse());
  });

  test('a cursor shows nobody else’s sessions', async () => {
    const [user] = await openSessions(3);
    const { body } = await call(system(), list(user, '?limit=1'));
    const [stranger] = await openSessions(1);
    assert.deepEqual(await listIds(stranger, `?cursor=${body.next_cursor}`), []);
  });

  test('a limit outside 1 to 200 is refused', async () => {
    const [user] = await openSessions(1);
    for (const limit of ['0', '201', '-1', '1.5', 'x', '', '1&limit=2']) {
      const probe = await call(system(), list(user, `?limit=${limit}`));
      const errors = probe.body.errors as { path: string; message: string }[];
      assert.deepEqual([...new Set(errors.map(({ path }) => path))], ['limit'], limit);
      await assertRefused(system(), list(user, `?limit=${limit}`), 'validation_failed', { errors });
    }
    assert.equal((await call(system(), list(user, '?limit=200'))).status, 200);
  });

  test('an invented cursor is refused, and so is an unknown parameter', async () => {
    const [user] = await openSessions(1);
    const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const invented = ['x', 'bnVsbA', encode([]), encode({}), encode([1]), encode(['1', 'x']), encode([1.5, 'x'])];
    for (const cursor of [...invented, encode([1, 2]), encode([1e300, 'x']), encode('text')]) {
      const errors = [{ path: 'cursor', message: 'is not a cursor of this list' }];
      await assertRefused(system(), list(user, `?cursor=${cursor}`), 'validation_failed', { errors });
    }
    for (const [query, path] of [
      ['?cursor=', 'cursor'],
      [`?cursor=${'A'.repeat(201)}`, 'cursor'],
      ['?page=2', 'page'],
    ]) {
      const reply = await call(system(), list(user, query));
      assertProblem(reply, 'validation_failed', { errors: reply.body.errors });
      assert.equal(reply.body.errors[0].path, path);
    }
  });

  test('a session that has expired is not listed', async () => {
    const user = await registerUser(system());
    system().clock.advanceSeconds(7 * day - 1);
    const fresh = await openSession(system(), user);
    assert.deepEqual(await listIds(fresh), [sessionId(fresh), sessionId(user)]);
    system().clock.advanceSeconds(1);
    const { body } = await refresh(system(), fresh.refreshToken);
    const reply = await call(system(), { ...list(fresh), token: body.access_token });
    assert.deepEqual(
      reply.body.items.map((item: { id: string }) => item.id),
      [sessionId(fresh)],
    );
  });

  test('one session is ended at once, with both its tokens, and the others go on', async () => {
    const [user, target, other] = await openSessions(3);
    assert.ok(target && other);
    const reply = await call(system(), end(user, sessionId(target)));
    assert.equal(reply.status, 204);
    assert.equal(reply.text, '');
    await assertDead(target);
    for (const session of [user, other]) assert.equal((await readMe(system(), session.accessToken)).status, 200);
    assert.deepEqual(await listIds(user), [sessionId(other), sessionId(user)]);
    assert.deepEqual(await eventsOf(user.id, 'session.ended'), [{ session_id: sessionId(target), by: 'owner' }]);
    await assertRefused(system(), end(user, sessionId(target)), 'not_found');
  });

  test('the session that asks may end itself', async () => {
    const [user, other] = await openSessions(2);
    assert.ok(other);
    assert.equal((await call(system(), end(user, sessionId(user)))).status, 204);
    await assertDead(user);
    assert.equal((await readMe(system(), other.accessToken)).status, 200);
  });

  test('somebody else’s session and an unknown one are not found alike', async () => {
    const [user] = await openSessions(1);
    const [stranger] = await openSessions(1);
    const theirs = await assertRefused(system(), end(user, sessionId(stranger)), 'not_found');
    const unknown = await assertRefused(system(), end(user, unknownId), 'not_found');
    assert.deepEqual({ ...theirs.body, request_id: '' }, { ...unknown.body, request_id: '' });
    assert.equal((await readMe(system(), stranger.accessToken)).status, 200);
  });

  test('what is no id is refused', async () => {
    const [user] = await openSessions(1);
    for (const id of ['x', unknownId.slice(1), `${unknownId}0`, '%00', "'"]) {
      const errors = [{ path: 'id', message: 'must match format "uuid"' }];
      await assertRefused(system(), end(user, id), 'validation_failed', { errors });
    }
  });

  test('all others end at once, and the one that asks goes on', async () => {
    const [user, ...others] = await openSessions(4);
    const [stranger] = await openSessions(1);
    assert.equal((await call(system(), endOthers(user))).status, 204);
    for (const other of others) await assertDead(other);
    assert.equal((await readMe(system(), user.accessToken)).status, 200);
    assert.equal((await refresh(system(), user.refreshToken)).status, 200);
    assert.equal((await readMe(system(), stranger.accessToken)).status, 200);
    assert.deepEqual(await eventsOf(user.id, 'session.others_ended'), [{ ended: 3 }]);
  });

  test('ending all others where there are none changes and records nothing', async () => {
    const [user] = await openSessions(1);
    const before = await takeStock(system());
    assert.equal((await call(system(), endOthers(user))).status, 204);
    assert.deepEqual(await takeStock(system()), before);
  });

  test('each of them needs an access token', async () => {
    const [user] = await openSessions(1);
    for (const { token: _token, ...anonymous } of [list(user), endOthers(user), end(user, sessionId(user))]) {
      await assertRefused(system(), anonymous, 'authentication_required');
      await assertRefused(system(), { ...anonymous, token: user.refreshToken }, 'invalid_token');
    }
  });
});
