import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createRedisStore } from '../../src/ephemeral/redis.ts';
import { connectRedis, type RedisConnection } from '../../src/ephemeral/redis-connection.ts';
import { newEmail, openSession, proveAddress, registerUser, type TestUser } from '../accounts.ts';
import { assertProblem, call, type Reply } from '../client.ts';
import { isUnavailable, minuteMs, newKey, openRedis } from '../ephemeral.ts';
import { type System, startSystem } from '../system.ts';
import { ask, type Member, masterPort, startWatchedRedis, type WatchedRedis, waitFor } from './redis-groups.ts';
import { reasonToSkip } from './servers.ts';

const nowMs = Date.now();
const entry = { digest: 'right', payload: 'payload', expiresAtMs: nowMs + minuteMs };

describe('with a Redis that sentinels watch', { skip: reasonToSkip('redis') }, () => {
  let redis: WatchedRedis;
  let system: System;
  let user: TestUser;
  let nextHost = 0;

  before(async () => {
    redis = await startWatchedRedis();
    system = await startSystem('sqlite+memory', { REDIS_URL: redis.url, RATE_LIMITS: 'on' });
    user = await registerUser(system);
  });
  after(async () => {
    await system?.close();
    await redis?.remove();
  });

  /** Asks for a code for a new address, from a client of its own, so that no limit is in the way. */
  async function sendNewCode(): Promise<Reply> {
    nextHost += 1;
    const remoteAddress = `198.51.${100 + Math.floor(nextHost / 250)}.${nextHost % 250}`;
    const body = { email: newEmail(), purpose: 'registration' };
    return call(system, { method: 'POST', path: '/auth/send-code', body, remoteAddress });
  }

  async function readiness(): Promise<unknown[]> {
    const { status, body } = await call(system, { method: 'GET', path: '/health/ready' });
    return [status, body.status, body.components.ephemeral];
  }

  async function findMaster(): Promise<Member> {
    const [sentinel] = redis.sentinels;
    const port = sentinel && (await masterPort(sentinel));
    const master = redis.servers.find((server) => server.port === port);
    assert.ok(master);
    return master;
  }

  async function isMaster({ url }: Member): Promise<boolean> {
    return /^role:master/m.test(await ask<string>(url, ['INFO', 'replication']));
  }

  test('codes are refused while the master is dead, and work on the next one without a restart', async (t) => {
    assert.deepEqual(await readiness(), [200, 'ready', 'up']);
    const master = await findMaster();
    const others = redis.servers.filter((server) => server !== master);
    await master.stop();
    const stoppedAtMs = performance.now();
    assertProblem(await sendNewCode(), 'temporarily_unavailable');
    assert.deepEqual(await readiness(), [200, 'degraded', 'down']);
    await openSession(system, user);
    assert.ok(performance.now() - stoppedAtMs < 1_000, 'nothing waited for it');
    await waitFor(async () => (await Promise.all(others.map(isMaster))).includes(true));
    const promotedAtMs = performance.now();
    await waitFor(async () => {
      const reply = await sendNewCode();
      if (reply.status !== 202) assertProblem(reply, 'temporarily_unavailable');
      return reply.status === 202;
    });
    const tookMs = Math.round(performance.now() - promotedAtMs);
    const awayMs = Math.round(performance.now() - stoppedAtMs);
    t.diagnostic(
      `measured: codes work ${tookMs} ms after a new master is promoted, ${awayMs} ms after the old one died`,
    );
    assert.ok(tookMs < 5_000, `it took ${tookMs} ms`);
    assert.deepEqual(await readiness(), [200, 'ready', 'up']);
    // The whole way of a code, with every script new to this server.
    assert.ok(await proveAddress(system, newEmail(), 'registration'));
  });

  test('a master that comes back as one, before it is told that it is none, is not written to', async () => {
    const current = await findMaster();
    const [returned] = redis.servers;
    assert.ok(returned && returned !== current);
    await returned.start();
    for (let turn = 0; turn < 10; turn += 1) {
      assert.equal((await sendNewCode()).status, 202);
      assert.ok(await isMaster(returned), 'for some seconds it is one by its own word');
      assert.equal(await ask(returned.url, ['DBSIZE']), 0);
      await sleep(100);
    }
    assert.equal(await findMaster(), current);
  });

  test('a failover that an operator orders is followed, although the old master goes on', async (t) => {
    const old = await findMaster();
    await waitFor(async () => /connected_slaves:[12]/.test(await ask<string>(old.url, ['INFO', 'replication'])));
    await ask(redis.sentinels[0]?.url ?? '', ['SENTINEL', 'FAILOVER', 'main-1']);
    await waitFor(async () => (await findMaster()) !== old);
    const knownAtMs = performance.now();
    const { url } = await findMaster();
    const store = createRedisStore(system.deps.redis as RedisConnection, 'moved:');
    await waitFor(async () => {
      const key = newKey();
      await store.put(key, entry, nowMs).catch((error) => assert.ok(isUnavailable(error)));
      return (await ask<number>(url, ['EXISTS', `moved:${key}`])) === 1;
    });
    const tookMs = Math.round(performance.now() - knownAtMs);
    t.diagnostic(`measured: codes go to the master that an operator asked for ${tookMs} ms after a sentinel names it`);
    assert.ok(tookMs < 5_000, `it took ${tookMs} ms`);
    assert.equal((await sendNewCode()).status, 202);
  });

  test('a sentinel that is away or stands still changes nothing, and neither do all of them', async () => {
    const [one, other, third] = redis.sentinels as [Member, Member, Member];
    one.freeze();
    await other.stop();
    try {
      // Whoever starts now asks the one that is left.
      const client = await openRedis(redis.url);
      const store = createRedisStore(client, '');
      await store.put(newKey(), entry, nowMs);
      third.freeze();
      await store.ping();
      assert.equal((await sendNewCode()).status, 202);
      const closedAtMs = performance.now();
      await store.close();
      assert.ok(performance.now() - closedAtMs < 100, 'it does not wait for servers that stand still');
    } finally {
      one.thaw();
      third.thaw();
      await other.start();
    }
  });

  test('sentinels that are absent at the start are an error to report, and heal without a restart', async () => {
    for (const sentinel of redis.sentinels) await sentinel.stop();
    const errors: string[] = [];
    const client = connectRedis(redis.url, (error) => errors.push(error.message));
    const store = createRedisStore(client, '');
    try {
      await waitFor(async () => errors.length >= redis.sentinels.length);
      await assert.rejects(store.put(newKey(), entry, nowMs), isUnavailable);
      await assert.rejects(store.ping(), isUnavailable);
      for (const sentinel of redis.sentinels) await sentinel.start();
      await waitFor(() =>
        store.ping().then(
          () => true,
          () => false,
        ),
      );
      await store.put(newKey(), entry, nowMs);
      for (const error of errors) assert.match(error, /^the sentinel at 127\.0\.0\.1:\d+: /);
    } finally {
      await store.close();
    }
  });

  test('a name that no sentinel knows, and a password that is wrong, are said', async () => {
    const wrong = {
      [redis.url.replace('/main-1', '/main-2')]: /^the sentinel at .*knows no master named main-2/,
      [redis.url.replace(/\?.*/, '?sentinel_password=hunter2')]: /^the sentinel at .*WRONGPASS/,
      [redis.url.replace(/\?.*/, '')]: /^the sentinel at .*NOAUTH/,
      [redis.url.replace(/\/\/.*@/, '//:hunter2@')]: /^Redis at .*WRONGPASS/,
    };
    for (const [url, expected] of Object.entries(wrong)) {
      const errors: string[] = [];
      const client = connectRedis(url, (error) => errors.push(error.message));
      await waitFor(async () => errors.some((error) => expected.test(error)), 3_000).catch(() => {});
      client.close();
      assert.match(errors.join('\n'), new RegExp(expected, 'm'));
      assert.doesNotMatch(errors.join('\n'), /hunter2/);
      assert.equal(client.isReady, false);
    }
  });
});
