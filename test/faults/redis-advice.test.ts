import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createRedisStore } from '../../src/ephemeral/redis.ts';
import { adviseOn } from '../../src/ephemeral/redis-advice.ts';
import { minuteMs, newKey, openRedis, sendBudget } from '../ephemeral.ts';
import { ask, startCluster, waitFor } from './redis-groups.ts';
import { reasonToSkip, startRedis } from './servers.ts';

const nowMs = Date.now();
const entry = { digest: 'right', payload: 'payload', expiresAtMs: nowMs + minuteMs, tries: 5 };
const address = { host: 'cache', port: 6379 };

describe('what an operator is told about a Redis', { skip: reasonToSkip('redis') }, () => {
  test('is that it may evict keys, once for each connection and not for each command', async () => {
    const server = await startRedis(['maxmemory-policy volatile-ttl']);
    const warnings: string[] = [];
    const client = await openRedis(
      server.url,
      () => {},
      (text) => warnings.push(text),
    );
    const store = createRedisStore(client, '');
    try {
      const { port } = new URL(server.url);
      const expected = `Redis at 127.0.0.1:${port} may evict keys when its memory is full (maxmemory-policy is volatile-ttl): codes, limits and the marks of revoked sessions could vanish before their time. Set maxmemory-policy to noeviction.`;
      await waitFor(async () => warnings.length > 0);
      for (let turn = 0; turn < 20; turn += 1) await store.put(newKey(), entry, nowMs);
      // One says hello at the start and then with every beat.
      await waitFor(async () => (await countHellos(server.url)) >= 5);
      assert.deepEqual(warnings, [expected]);
      await server.stop();
      await server.start();
      await waitFor(async () => warnings.length > 1);
      assert.deepEqual(warnings, [expected, expected]);
    } finally {
      await store.close();
      await server.remove();
    }
  });

  test('is nothing where it evicts nothing, and nothing where it refuses to tell; and it serves all the same', async () => {
    const rules = '+@all -info -time -config -script -hello';
    const server = await startRedis(['maxmemory-policy noeviction', `user limited on >password ~* ${rules}`]);
    const limitedUrl = server.url.replace('redis://', 'redis://limited:password@');
    try {
      await ask(server.url, ['CONFIG', 'SET', 'maxmemory-policy', 'noeviction']);
      for (const url of [server.url, limitedUrl]) {
        const warnings: string[] = [];
        const client = await openRedis(
          url,
          () => {},
          (text) => warnings.push(text),
        );
        const store = createRedisStore(client, '');
        const key = newKey();
        await store.put(key, entry, nowMs);
        assert.equal(await store.take(key, ['wrong'], nowMs), undefined);
        assert.equal(await store.take(key, ['right'], nowMs), 'payload');
        assert.deepEqual(await store.spend(newKey(), sendBudget, nowMs), { allowed: true });
        await store.ping();
        await store.close();
        assert.deepEqual(warnings, []);
        await ask(server.url, ['CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru']);
      }
    } finally {
      await server.remove();
    }
  });

  test('is said of each master of a cluster that it holds for', async () => {
    const cluster = await startCluster();
    const warnings: string[] = [];
    const [, one, other] = cluster.masters;
    for (const master of [one, other]) {
      await ask(master?.url ?? '', ['CONFIG', 'SET', 'maxmemory-policy', 'allkeys-random']);
    }
    const client = await openRedis(
      cluster.url,
      () => {},
      (text) => warnings.push(text),
    );
    try {
      await waitFor(async () => warnings.length >= 2);
      const ports = warnings.map((warning) => Number(/:(\d+) may evict/.exec(warning)?.[1]));
      assert.deepEqual(ports.sort(), [one?.port, other?.port].sort());
    } finally {
      client.close();
      await cluster.remove();
    }
  });

  test('is that it is too old, but not of a Valkey, which counts on from Redis 7', async () => {
    const advise = (server: string) =>
      adviseOn({ sendCommand: async ([, section]) => (section === 'server' ? server : '') }, address);
    assert.deepEqual(await advise('# Server\r\nredis_version:6.2.14\r\n'), [
      'Redis at cache:6379 is version 6.2.14. Latchkey is made for Redis 7 or later, or Valkey.',
    ]);
    for (const server of [
      'redis_version:7.0.0',
      'redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.0.1',
      '',
    ]) {
      assert.deepEqual(await advise(`# Server\r\n${server}\r\n`), [], server);
    }
  });
});

async function countHellos(url: string): Promise<number> {
  const stats = await ask<string>(url, ['INFO', 'commandstats']);
  return Number(/^cmdstat_hello:calls=(\d+)/m.exec(stats)?.[1] ?? 0);
}
