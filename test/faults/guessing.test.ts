import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openSession, registerUser, type TestUser } from '../accounts.ts';
import { assertProblem } from '../client.ts';
import { failuresOf, newPlace, type Place, tryLogin, wrongPassword } from '../guessing.ts';
import { type System, startPeer, startSystem } from '../system.ts';
import { until } from '../until.ts';
import { ask } from './redis-groups.ts';
import { type PrivateServer, reasonToSkip, startRedis } from './servers.ts';

// A login meets a frozen Redis at its limit and at its throttle.
const answerLimitMs = 2_500;

describe('guessing when Redis fails', { skip: reasonToSkip('redis') }, () => {
  let server: PrivateServer;
  let system: System;
  let user: TestUser;

  before(async () => {
    server = await startRedis();
    system = await startSystem('sqlite+memory', { REDIS_URL: server.url, RATE_LIMITS: 'on' });
  });
  after(async () => {
    await system?.close();
    await server?.remove();
  });

  async function fail(place: Place, times: number, at = system): Promise<void> {
    for (let tried = 0; tried < times; tried += 1) {
      assertProblem(await tryLogin(at, user.email, wrongPassword, place), 'invalid_credentials');
    }
  }

  /** How many failed attempts were compared. */
  async function compared(): Promise<number> {
    return (await failuresOf(system, user.id)).filter(({ attempt }) => attempt !== 'throttled').length;
  }

  /** The owner's login, which must take no longer than this whatever Redis does. */
  async function logInInTime(): Promise<void> {
    const startedAtMs = performance.now();
    await openSession(system, user);
    const tookMs = performance.now() - startedAtMs;
    assert.ok(tookMs < answerLimitMs, `the login took ${tookMs} ms`);
  }

  test('the throttle is no looser while Redis is flushed, stands still, is away and comes back empty', async () => {
    user = await registerUser(system);
    const place = newPlace();
    await fail(place, 3);
    await ask(server.url, ['FLUSHALL']);
    await fail(place, 1);
    server.freeze();
    await fail(place, 2);
    await logInInTime();
    await server.stop();
    await fail(place, 3);
    await logInInTime();
    assert.equal(await compared(), 5);
    assertProblem(await tryLogin(system, user.email, user.password, place), 'invalid_credentials');
    await server.start();
    await fail(place, 2);
    assert.equal(await compared(), 5);
    system.clock.advanceSeconds(1);
    assert.equal((await tryLogin(system, user.email, user.password, place)).status, 200);
  });

  test('a Redis that was away for long enough is asked again', async () => {
    await until(async () => system.deps.redis?.isReady === true);
    // The pause after the last failure, by this machine's clock.
    await sleep(1_000);
    user = await registerUser(system);
    const peer = await startPeer(system);
    try {
      const place = newPlace();
      await fail(place, 3);
      await fail(place, 3, peer);
      assert.equal(await compared(), 5, 'what one instance counts holds at the other');
    } finally {
      await peer.close();
    }
  });
});
