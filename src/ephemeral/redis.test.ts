import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { networkInterfaces } from 'node:os';
import { describe, test } from 'node:test';
import { createClient } from '@redis/client';
import { redisUrl } from '../../test/backends.ts';
import { hasRedis, isUnavailable, minuteMs, openRedis, sendBudget } from '../../test/ephemeral.ts';
import { waitFor } from '../../test/faults/redis-groups.ts';
import { reasonToSkip, startRedis } from '../../test/faults/servers.ts';
import { findFreePort } from '../../test/ports.ts';
import { createRedisStore } from './redis.ts';
import { connectRedis } from './redis-connection.ts';

const hasIpv6 = networkInterfaces().lo?.some(({ address }) => address === '::1') ?? false;

describe('the Redis store', () => {
  const forms: Record<string, (port: number, other: number) => string> = {
    'a Redis': (port) => `redis://127.0.0.1:${port}`,
    'a sentinel': (port, other) => `redis+sentinel://127.0.0.1:${port},127.0.0.1:${other}/main`,
    'a cluster': (port, other) => `redis+cluster://127.0.0.1:${port},127.0.0.1:${other}`,
  };
  for (const [name, urlOf] of Object.entries(forms)) {
    test(`without ${name} every operation is refused as temporarily unavailable, at once`, async () => {
      const errors: Error[] = [];
      const url = urlOf(await findFreePort(), await findFreePort());
      const client = connectRedis(url, (error) => errors.push(error));
      const store = createRedisStore(client, 'latchkey_test:');
      const startedAtMs = performance.now();
      const entry = { digest: 'digest', payload: 'payload', expiresAtMs: 2 };
      const operations: (() => Promise<unknown>)[] = [
        () => store.put('{a}', entry, 1),
        () => store.peek('{a}', 'digest', 1),
        () => store.take('{a}', ['digest'], 1),
        () => store.remove(['{a}', '{b}']),
        () => store.spend('{a}', sendBudget, 1),
        () => store.refund('{a}', 1),
        () => store.ping(),
      ];
      const refuseAll = () => Promise.all(operations.map((operation) => assert.rejects(operation(), isUnavailable)));
      await refuseAll();
      while (errors.length === 0) await new Promise((resolve) => setImmediate(resolve));
      await refuseAll();
      const tookMs = performance.now() - startedAtMs;
      assert.equal(client.isReady, false);
      await store.close();
      assert.ok(tookMs < 900, `it took ${tookMs} ms, which is as if something had been waited for`);
      for (const { message } of errors) assert.match(message, /^(?:Redis|the sentinel) at 127\.0\.0\.1:\d+: /);
    });
  }

  test('each command names one key, so that it works on a cluster', { skip: !hasRedis }, async () => {
    const prefix = `latchkey_test_${randomBytes(8).toString('hex')}:`;
    const observer = createClient({ url: redisUrl });
    const [client] = await Promise.all([openRedis(), observer.connect()]);
    const store = createRedisStore(client, prefix);
    const commands: string[] = [];
    await observer.monitor((line) => commands.push(String(line)));
    const nowMs = Date.now();
    await store.put('{a}:entry', { digest: 'd', payload: 'p', expiresAtMs: nowMs + minuteMs, tries: 5 }, nowMs);
    await store.peek('{a}:entry', 'd', nowMs);
    await store.take('{a}:entry', ['d'], nowMs);
    await store.spend('{a}:budget', sendBudget, nowMs);
    await store.refund('{a}:budget', nowMs);
    await store.remove(['{a}:budget', '{b}:entry', '{last}']);
    while (!commands.some((line) => line.includes(`${prefix}{last}`)))
      await new Promise((resolve) => setImmediate(resolve));
    await store.close();
    observer.destroy();
    const own = commands.filter((line) => line.includes(prefix));
    assert.ok(own.length >= 8, own.join('\n'));
    for (const line of own) assert.equal(line.split(prefix).length - 1, 1, line);
  });

  test('a server that is not what REDIS_URL says is reported, and no command is sent to it', {
    skip: !hasRedis,
  }, async () => {
    const host = redisUrl.replace('redis://', '');
    const wrong = {
      [`redis+cluster://${host}`]: /cluster support disabled/,
      [`redis+sentinel://${host}/main`]: /SENTINEL/,
    };
    for (const [url, expected] of Object.entries(wrong)) {
      const errors: string[] = [];
      const client = connectRedis(url, (error) => errors.push(`${error.message} ${error.cause}`));
      try {
        await waitFor(async () => errors.some((error) => expected.test(error)));
        await assert.rejects(client.del('{a}'));
        await assert.rejects(client.ping());
        assert.equal(client.isReady, false);
      } finally {
        client.close();
      }
    }
  });

  test('a server may have an IPv6 address', { skip: reasonToSkip('redis') || !hasIpv6 }, async () => {
    const server = await startRedis(['bind 127.0.0.1 ::1']);
    const client = await openRedis(server.url.replace('127.0.0.1', '[::1]'));
    try {
      await client.ping();
    } finally {
      client.close();
      await server.remove();
    }
  });
});
