import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { newEmail, readMe, refresh, registerUser, type TestUser } from '../../test/accounts.ts';
import { call } from '../../test/client.ts';
import { countRows, describeOnBackends, digestRows } from '../../test/system.ts';
import { howOften } from '../../test/thorough.ts';
import { newId } from '../crypto/ids.ts';
import { createMaintenance } from './flow.ts';

const expiredSessions = howOften({ brief: 4_000, thorough: 10_000 });
const leaseSeconds = 120;
const day = 24 * 60 * 60;

describeOnBackends('maintenance', {}, (system) => {
  /** Adds sessions of a user that end at these times. */
  async function insertSessions(user: TestUser, idleExpiries: readonly number[]): Promise<string[]> {
    const createdAt = system().clock.now() - 10 * day * 1000;
    const rows = idleExpiries.map((idleExpiresAt) => ({
      id: newId(),
      user_id: user.id,
      generation: 3,
      salt: randomBytes(32).toString('base64url'),
      created_at: createdAt,
      rotated_at: createdAt,
      authenticated_at: createdAt,
      idle_expires_at: idleExpiresAt,
      expires_at: createdAt + 30 * day * 1000,
      client_address: '203.0.113.7',
      user_agent: null,
      device_label: null,
    }));
    for (let start = 0; start < rows.length; start += 500) {
      await system()
        .deps.db.insertInto('sessions')
        .values(rows.slice(start, start + 500))
        .execute();
    }
    return rows.map((row) => row.id);
  }

  async function idsOf(table: 'sessions' | 'outbox'): Promise<string[]> {
    return (await system().deps.db.selectFrom(table).select('id').orderBy('id').execute()).map(({ id }) => id);
  }

  /** Runs the cleaner for sure: the turn of a test before may still hold the lease. */
  function sweep(): Promise<number | undefined> {
    system().clock.advanceSeconds(leaseSeconds);
    return createMaintenance(system().deps).runOnce();
  }

  test(`${expiredSessions} expired sessions go, the live ones stay, and requests are answered meanwhile`, async () => {
    await sweep();
    const user = await registerUser(system());
    const { clock } = system();
    await insertSessions(
      user,
      Array.from({ length: 50 }, (_, index) => clock.now() + leaseSeconds * 1000 + 1 + index),
    );
    const live = [await countRows(system()), await digestRows(system())];
    await insertSessions(
      user,
      Array.from({ length: expiredSessions }, (_, index) => clock.now() - index),
    );

    const times: number[] = [];
    let isDone = false;
    const sweeping = sweep().finally(() => {
      isDone = true;
    });
    while (!isDone) {
      // A real request arrives in a turn of its own; injected ones alone would never let the loop turn.
      await nextTurn();
      const startedAt = performance.now();
      assert.equal((await readMe(system(), user.accessToken)).status, 200);
      times.push(performance.now() - startedAt);
    }
    assert.equal(await sweeping, expiredSessions);
    assert.deepEqual([await countRows(system()), await digestRows(system())], live);
    // One statement for all of them would hold SQLite's one connection, and the event loop, to its end.
    assert.ok(times.length >= 20, `only ${times.length} requests were answered during the sweep`);
    const p99 = times.sort((a, b) => a - b)[Math.floor(times.length * 0.99)] ?? 0;
    assert.ok(p99 < 250, `a request took ${p99} ms during the sweep`);
    assert.equal(await sweep(), 50, 'those that were live have expired by now');
    assert.equal((await refresh(system(), user.refreshToken)).status, 200);
  });

  test('a session goes at the instant of its expiry and not before', async () => {
    await sweep();
    const user = await registerUser(system());
    const thenMs = system().clock.now() + leaseSeconds * 1000;
    const [expired = '', alive = ''] = await insertSessions(user, [thenMs, thenMs + 1]);
    assert.equal(await sweep(), 1);
    const left = await idsOf('sessions');
    assert.deepEqual([left.includes(expired), left.includes(alive)], [false, true]);
    assert.equal((await readMe(system(), user.accessToken)).status, 200);
  });

  test('the tables are back where they were when every session of a storm of logins has expired', async () => {
    const user = await registerUser(system());
    system().clock.advanceSeconds(31 * day);
    await sweep();
    const before = await countRows(system());
    const body = { email: user.email, password: user.password };
    for (let login = 0; login < 30; login += 1) {
      assert.equal((await call(system(), { method: 'POST', path: '/auth/login', body })).status, 200);
    }
    await system().deps.outbox.deliverDue();
    system().clock.advanceSeconds(8 * day);
    await sweep();
    const { audit_events: _events, ...after } = await countRows(system());
    const { audit_events: _before, ...expected } = before;
    assert.deepEqual(after, expected);
  });

  test('mail that was not delivered in time goes, and mail that waits stays', async () => {
    await system().deps.outbox.deliverDue();
    const { db, outbox } = system().deps;
    const thenMs = system().clock.now() + leaseSeconds * 1000;
    const enqueue = (expiresAtMs: number) =>
      outbox.enqueue(db, {
        to: newEmail(),
        userId: null,
        locale: null,
        message: { kind: 'password_changed' },
        expiresAtMs,
      });
    await enqueue(thenMs + 1);
    const waiting = await idsOf('outbox');
    await enqueue(thenMs);
    assert.equal(await sweep(), 1);
    assert.deepEqual(await idsOf('outbox'), waiting);
    await outbox.deliverDue();
  });

  test('a change of address that was not completed in time goes, and one under way stays', async () => {
    await sweep();
    const { db } = system().deps;
    const thenMs = system().clock.now() + leaseSeconds * 1000;
    const users = [await registerUser(system()), await registerUser(system())];
    for (const [index, user] of users.entries()) {
      const row = { user_id: user.id, email: newEmail(), created_at: 0, expires_at: thenMs + index };
      await db.insertInto('pending_email_changes').values(row).execute();
    }
    assert.equal(await sweep(), 1);
    const left = await db.selectFrom('pending_email_changes').select('user_id').execute();
    assert.deepEqual(
      left.map((row) => row.user_id),
      [users[1]?.id],
    );
  });

  test('a deleted user with very many events is forgotten in all of them, the rest in the background', async () => {
    await sweep();
    const { db } = system().deps;
    const user = await registerUser(system());
    const events = Array.from({ length: 1_500 }, (_, index) => ({
      id: newId(),
      type: 'login.failed',
      occurred_at: index,
      actor_id: user.id,
      user_id: user.id,
      client_address: '203.0.113.7',
      user_agent: 'a device',
      request_id: null,
      details: '{"method":"password"}',
    }));
    for (let at = 0; at < events.length; at += 500) {
      await db
        .insertInto('audit_events')
        .values(events.slice(at, at + 500))
        .execute();
    }
    const held = async () => {
      const query = db.selectFrom('audit_events').select('id').where('user_id', '=', user.id);
      return (await query.where('client_address', 'is not', null).execute()).length;
    };
    const reply = await call(system(), { method: 'DELETE', path: '/users/me', token: user.accessToken });
    assert.equal(reply.status, 204);
    assert.ok((await held()) > 0, 'one transaction does not hold everybody up for all of them');
    await sweep();
    assert.equal(await held(), 0);
    assert.equal((await db.selectFrom('pending_erasures').selectAll().execute()).length, 0);
  });

  test('a device that was not used for 180 days is forgotten', async () => {
    await sweep();
    const { db } = system().deps;
    const user = await registerUser(system());
    await db.deleteFrom('known_devices').execute();
    const thenMs = system().clock.now() + leaseSeconds * 1000;
    for (const [fingerprint, last_seen_at] of [
      ['stale', thenMs - 180 * day * 1000],
      ['kept', thenMs - 180 * day * 1000 + 1],
    ] as const) {
      await db
        .insertInto('known_devices')
        .values({ user_id: user.id, fingerprint, first_seen_at: 0, last_seen_at })
        .execute();
    }
    assert.equal(await sweep(), 1);
    const left = await db.selectFrom('known_devices').select('fingerprint').execute();
    assert.deepEqual(
      left.map(({ fingerprint }) => fingerprint),
      ['kept'],
    );
  });

  test('more stale devices than one batch holds all go', async () => {
    await sweep();
    const { db } = system().deps;
    const user = await registerUser(system());
    const rows = Array.from({ length: 1_050 }, (_, index) => {
      return { user_id: user.id, fingerprint: `stale ${index}`, first_seen_at: 0, last_seen_at: index % 7 };
    });
    await db.insertInto('known_devices').values(rows).execute();
    assert.equal(await sweep(), 1_050);
    const left = await db.selectFrom('known_devices').select('fingerprint').where('user_id', '=', user.id).execute();
    assert.equal(left.length, 1);
  });

  test('a key goes when the last token that it can have signed has expired; the ones in use stay', async () => {
    await sweep();
    const { db, accessTokens } = system().deps;
    const list = () => db.selectFrom('signing_keys').select(['kid', 'state']).orderBy('kid').execute();
    const inUse = await list();
    const thenMs = system().clock.now() + leaseSeconds * 1000;
    // And a minute more, for an instance that signs with it until it has noticed.
    const lifeMs = accessTokens.ttlSeconds * 1000 + 60_000;
    const [template] = await db.selectFrom('signing_keys').selectAll().execute();
    assert.ok(template);
    for (const [kid, retired_at] of [
      ['~expired', thenMs - lifeMs],
      ['~needed', thenMs - lifeMs + 1],
    ] as const) {
      await db
        .insertInto('signing_keys')
        .values({ ...template, kid, state: 'retired', retired_at })
        .execute();
    }
    assert.equal(await sweep(), 1);
    assert.deepEqual(
      (await list()).map(({ kid, state }) => `${kid} ${state}`),
      [...inUse.map(({ kid, state }) => `${kid} ${state}`), '~needed retired'],
    );
    await db.deleteFrom('signing_keys').where('kid', '=', '~needed').execute();
  });

  test('where nothing has expired nothing is removed', async () => {
    await sweep();
    const user = await registerUser(system());
    const path = '/users/me/email';
    await call(system(), { method: 'POST', path, token: user.accessToken, body: { email: newEmail() } });
    await system().deps.outbox.deliverDue();
    const before = [await countRows(system()), await digestRows(system())];
    assert.equal(await sweep(), 0);
    assert.deepEqual([await countRows(system()), await digestRows(system())], before);
  });

  test('of two instances on one database one works and the other looks on', async () => {
    system().clock.advanceSeconds(leaseSeconds);
    const user = await registerUser(system());
    const [one, other] = [createMaintenance(system().deps), createMaintenance(system().deps)];
    assert.equal(typeof (await one.runOnce()), 'number');
    const [expired] = await insertSessions(user, [system().clock.now()]);
    assert.equal(await other.runOnce(), undefined);
    assert.ok((await idsOf('sessions')).includes(expired ?? ''), 'it was not its turn');
    assert.equal(await one.runOnce(), 1, 'the one that holds the lease renews it');
  });

  test('instances that begin at once do not both work', async () => {
    for (let round = 0; round < 10; round += 1) {
      system().clock.advanceSeconds(leaseSeconds);
      const instances = Array.from({ length: 5 }, () => createMaintenance(system().deps));
      const outcomes = await Promise.all(instances.map((instance) => instance.runOnce()));
      assert.equal(outcomes.filter((removed) => removed !== undefined).length, 1);
    }
  });

  test('a lease that was not renewed is taken over after two minutes', async () => {
    system().clock.advanceSeconds(leaseSeconds);
    const [dead, heir] = [createMaintenance(system().deps), createMaintenance(system().deps)];
    await dead.runOnce();
    system().clock.advanceSeconds(leaseSeconds - 1);
    assert.equal(await heir.runOnce(), undefined);
    system().clock.advanceSeconds(1);
    assert.equal(await heir.runOnce(), 0);
    assert.equal(await dead.runOnce(), undefined, 'it comes back and finds that it was replaced');
  });
});
