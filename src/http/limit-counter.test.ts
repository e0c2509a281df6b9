import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, mock, test } from 'node:test';
import { openRedis } from '../../test/ephemeral.ts';
import { type Backend, backends, removeKeys } from '../../test/system.ts';
import type { Deps } from '../deps.ts';
import { createLimitCounter } from './limit-counter.ts';

const name = 'login';
const policy = { requests: 3, perSeconds: 60, scope: 'ip' } as const;
const alone: Deps = { redis: undefined, redisPrefix: '' } as Deps;

for (const backend of backends) {
  describe(`a counter (${backend})`, () => {
    test('lets through exactly what is allowed, counts what it refuses, and says how much is left', () =>
      onBackend(backend, async (deps) => {
        const counter = createLimitCounter(deps, { name, policy });
        const readings = [];
        for (let turn = 0; turn < 5; turn += 1) readings.push(await counter.consume('one'));
        assert.deepEqual(
          readings.map(({ consumed, remaining }) => [consumed, remaining]),
          // Beyond the limit this process need not ask, but it goes on counting.
          [
            [1, 2],
            [2, 1],
            [3, 0],
            [4, 0],
            [5, 0],
          ],
        );
        for (const { resetMs } of readings) assert.ok(resetMs > 50_000 && resetMs <= 60_000, `${resetMs}`);
        assert.equal((await counter.consume('another')).consumed, 1);
      }));

    test('a look counts nothing', () =>
      onBackend(backend, async (deps) => {
        const counter = createLimitCounter(deps, { name, policy });
        for (let turn = 0; turn < 5; turn += 1) assert.equal((await counter.look('one')).consumed, 0);
        await counter.consume('one');
        for (let turn = 0; turn < 5; turn += 1) assert.equal((await counter.look('one')).consumed, 1);
      }));

    test('of a hundred at once exactly those are let through that are allowed', () =>
      onBackend(backend, async (deps) => {
        const counter = createLimitCounter(deps, { name, policy: { ...policy, requests: 7 } });
        const readings = await Promise.all(Array.from({ length: 100 }, () => counter.consume('one')));
        assert.equal(readings.filter(({ consumed }) => consumed <= 7).length, 7);
      }));

    test('keeps apart what differs in name, scope or stretch', () =>
      onBackend(backend, async (deps) => {
        const counters = [
          createLimitCounter(deps, { name, policy }),
          createLimitCounter(deps, { name: 'refresh', policy }),
          createLimitCounter(deps, { name, policy: { ...policy, scope: 'pair' } }),
          createLimitCounter(deps, { name, policy: { ...policy, perSeconds: 61 } }),
        ];
        for (const counter of counters) assert.equal((await counter.consume('one')).consumed, 1);
      }));
  });
}

describe('a counter over two instances', { skip: !backends.includes('postgres+redis') && 'needs Redis' }, () => {
  test('counts together, and each goes on with its own count where Redis has forgotten', () =>
    onBackend('postgres+redis', async (deps) => {
      const [one, other] = [createLimitCounter(deps, { name, policy }), createLimitCounter(deps, { name, policy })];
      assert.equal((await one.consume('key')).consumed, 1);
      assert.equal((await other.consume('key')).consumed, 2);
      assert.equal((await one.consume('key')).consumed, 3);
      assert.equal((await other.look('key')).consumed, 3);
      // The end of the stretch, as Redis brings it about.
      await deps.redis?.del(`${deps.redisPrefix}limit:login:ip:m:key`);
      assert.equal((await one.look('key')).consumed, 2);
      assert.equal((await other.consume('key')).consumed, 2);
      assert.equal((await one.consume('key')).consumed, 3);
    }));

  test('a crowd of this process does not decide while Redis knows each by itself, and does when it is away', () =>
    onBackend('postgres+redis', async (deps) => {
      const counter = createLimitCounter(deps, { name, policy: { ...policy, requests: 1 }, maxKeys: 0 });
      const keys = Array.from({ length: 3_000 }, (_, index) => `client-${index}`);
      // Not all at once, so that Redis answers each within its deadline on a busy machine too.
      for (let first = 0; first < keys.length; first += 100) {
        const batch = await Promise.all(keys.slice(first, first + 100).map((key) => counter.consume(key)));
        assert.ok(batch.every(({ consumed }) => consumed === 1));
      }
      deps.redis?.close();
      // More than two clients for each crowd: every further request of theirs is one too many.
      const fallen = await Promise.all(keys.slice(0, 100).map((key) => counter.consume(key)));
      assert.ok(fallen.every(({ consumed }) => consumed > 1));
    }));
});

describe('a counter of this process alone', () => {
  test('begins anew when its stretch is over, and not before', async () => {
    mock.timers.enable({ apis: ['Date', 'setTimeout'], now: 1_800_000_000_000 });
    try {
      const counter = createLimitCounter(alone, { name, policy });
      for (let turn = 0; turn < 4; turn += 1) await counter.consume('one');
      mock.timers.tick(59_999);
      assert.deepEqual(await counter.consume('one'), { policy, consumed: 5, remaining: 0, resetMs: 1 });
      mock.timers.tick(1);
      assert.deepEqual(await counter.consume('one'), { policy, consumed: 1, remaining: 2, resetMs: 60_000 });
    } finally {
      mock.timers.reset();
    }
  });

  test('under a flood of addresses keeps those that it knows, counts the others in crowds, and forgets with time', async () => {
    mock.timers.enable({ apis: ['Date', 'setTimeout'], now: 1_800_000_000_000 });
    try {
      const counter = createLimitCounter(alone, { name, policy, maxKeys: 2 });
      for (const key of ['known', 'known', 'known', 'other']) await counter.consume(key);
      const flood = [];
      for (let client = 0; client < 10_000; client += 1) flood.push(await counter.consume(`client-${client}`));
      // 10,000 requests of 1,024 crowds, three each: newcomers share, and are never let through more than that.
      assert.ok(flood.filter(({ remaining, consumed }) => consumed <= 3 && remaining >= 0).length <= 3 * 1_024);
      assert.equal((await counter.consume('known')).consumed, 4);
      assert.equal((await counter.consume('other')).consumed, 2);
      mock.timers.tick(60_000);
      for (const key of ['client-1', 'client-2']) assert.equal((await counter.consume(key)).consumed, 1);
      assert.equal((await counter.consume('client-1')).consumed, 2);
    } finally {
      mock.timers.reset();
    }
  });

  test('knows 20,000 addresses of one policy one by one, and no more', async () => {
    const counter = createLimitCounter(alone, { name, policy: { requests: 1, perSeconds: 3_600, scope: 'ip' } });
    const letThrough = async (first: number, last: number): Promise<number> => {
      let count = 0;
      for (let client = first; client <= last; client += 1) {
        if ((await counter.consume(`client-${client}`)).consumed === 1) count += 1;
      }
      return count;
    };
    assert.equal(await letThrough(1, 20_000), 20_000);
    assert.ok((await letThrough(20_001, 30_000)) <= 1_024);
    assert.equal(await letThrough(1, 100), 0);
  });
});

async function onBackend(backend: Backend, work: (deps: Deps) => Promise<void>): Promise<void> {
  if (backend === 'sqlite+memory') return work(alone);
  const redisPrefix = `latchkey_test_${randomBytes(8).toString('hex')}:`;
  const redis = await openRedis();
  try {
    await work({ redis, redisPrefix } as Deps);
  } finally {
    redis.close();
    await removeKeys(`${redisPrefix}*`);
  }
}
