import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { hasRedis, newKey, openRedis } from '../../test/ephemeral.ts';
import { removeKeys } from '../../test/system.ts';
import type { RedisConnection } from './redis-connection.ts';
import { createThrottle } from './shared-throttle.ts';
import { createMemoryThrottle, type Throttle, type ThrottleRule } from './throttle.ts';

const rule: ThrottleRule = { freeAttempts: 3, firstWaitMs: 1_000, longestWaitMs: 8_000, memoryMs: 60_000 };
const startMs = Date.now();

/** Makes so many attempts at once and says how many were let through. */
async function countAll(throttle: Throttle, key: string, times: number, nowMs: number): Promise<number> {
  const outcomes = await Promise.all(Array.from({ length: times }, () => throttle.count(key, rule, nowMs)));
  return outcomes.filter(Boolean).length;
}

const prefix = `latchkey_test_${randomBytes(8).toString('hex')}:`;

for (const backend of ['memory', ...(hasRedis ? ['redis'] : [])]) {
  describe(`the throttle (${backend})`, () => {
    let redis: RedisConnection | undefined;
    let instances: Throttle[] = [];

    before(async () => {
      if (backend === 'redis') redis = await openRedis();
      const one = createThrottle(redis, prefix);
      // In memory there is no other instance.
      instances = [one, redis === undefined ? one : createThrottle(redis, prefix)];
    });
    after(async () => {
      redis?.close();
      if (redis !== undefined) await removeKeys(`${prefix}*`);
    });

    const [one, other] = [() => instances[0] as Throttle, () => instances[1] as Throttle];

    test('lets the free attempts through, then one after each wait, which doubles up to the longest', async () => {
      const key = newKey();
      assert.equal(await countAll(one(), key, 50, startMs), 3);
      let nowMs = startMs;
      for (const waitMs of [1_000, 2_000, 4_000, 8_000, 8_000]) {
        assert.equal(await other().count(key, rule, nowMs + waitMs - 1), false);
        nowMs += waitMs;
        assert.equal(await countAll(other(), key, 20, nowMs), 1);
      }
    });

    test('an attempt that has to wait changes nothing, however often it comes', async () => {
      const key = newKey();
      await countAll(one(), key, 3, startMs);
      for (let early = 1; early < 20; early += 1) {
        assert.equal(await one().count(key, rule, startMs + early * 50), false);
        assert.equal(await other().count(key, rule, startMs + early * 50), false);
      }
      assert.equal(await other().count(key, rule, startMs + 1_000), true);
      assert.equal(await one().count(key, rule, startMs + 3_000), true, 'the second wait is two seconds and no more');
    });

    test('parallel attempts at two instances get no more free ones than at one', async () => {
      const key = newKey();
      const counts = await Promise.all([countAll(one(), key, 20, startMs), countAll(other(), key, 20, startMs)]);
      assert.equal((counts[0] ?? 0) + (counts[1] ?? 0), 3);
    });

    test('an attempt that is taken back leaves no count and no wait', async () => {
      const key = newKey();
      await countAll(one(), key, 3, startMs);
      await one().takeBack(key);
      assert.equal(await countAll(one(), key, 20, startMs), 1);
      for (let taken = 0; taken < 5; taken += 1) await one().takeBack(key);
      assert.equal(await countAll(one(), key, 20, startMs), 3, 'less than none is none');
    });

    test('a key that is cleared, or was not used for long, starts anew, and another key never began', async () => {
      const key = newKey();
      await countAll(one(), key, 4, startMs);
      assert.equal(await countAll(one(), newKey(), 20, startMs), 3);
      await one().clear(key);
      assert.equal(await countAll(one(), key, 20, startMs), 3);
      assert.equal(await countAll(one(), key, 20, startMs + 59_999), 1);
      assert.equal(await countAll(one(), key, 20, startMs + 59_999 + 60_000), 3);
    });
  });
}

describe('the throttle in memory when it is full', () => {
  test('refuses nobody, makes room by forgetting whoever need not wait, and lets off nobody who must', async () => {
    const throttle = createMemoryThrottle(4);
    const blocked = ['blocked 1', 'blocked 2'];
    for (const key of blocked) await countAll(throttle, key, 3, startMs);
    for (const key of ['idle 1', 'idle 2', 'new 1', 'new 2', 'new 3']) {
      assert.equal(await throttle.count(key, rule, startMs), true);
    }
    for (const key of blocked) assert.equal(await throttle.count(key, rule, startMs), false);
    assert.equal(await countAll(throttle, 'new 3', 20, startMs), 2, 'the newest was kept');
  });

  test('full of keys that have to wait, it lets a further one through without a count', async () => {
    const throttle = createMemoryThrottle(2);
    for (const key of ['blocked 1', 'blocked 2']) await countAll(throttle, key, 3, startMs);
    assert.equal(await countAll(throttle, 'another', 20, startMs), 20);
    assert.equal(await countAll(throttle, 'another', 20, startMs + 1_000), 3, 'until one of them need not wait');
  });

  test('collecting frees the room of what is forgotten', async () => {
    const throttle = createMemoryThrottle(1);
    await countAll(throttle, 'blocked', 30, startMs);
    throttle.collect(startMs + 60_000);
    assert.equal(await countAll(throttle, 'another', 20, startMs + 60_000), 3);
  });
});
