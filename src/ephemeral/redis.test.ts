import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { hasRedis, isUnavailable, minuteMs, openRedis, sendBudget } from '../../test/ephemeral.ts';
import { findFreePort } from '../../test/ports.ts';
import { connectRedis, createRedisStore } from './redis.ts';

describe('the Redis store', () => {
  test('without a Redis every operation is refused as temporarily unavailable within two seconds', async () => {
    const errors: Error[] = [];
    const client = connectRedis(`redis://127.0.0.1:${await findFreePort()}`, (error) => errors.push(error));
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
    while (errors.length < 2) await new Promise((resolve) => setImmediate(resolve));
    await refuseAll();
    const tookMs = performance.now() - startedAtMs;
    await store.close();
    assert.ok(tookMs < 2_000, `it took ${tookMs} ms`);
  });

  test('each command names one key, so that it works on a cluster', { skip: !hasRedis }, async () => {
    const prefix = `latchkey_test_${randomBytes(8).toString('hex')}:`;
    const [client, observer] = await Promise.all([openRedis(), openRedis()]);
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
    await Promise.all([store.close(), observer.destroy()]);
    const own = commands.filter((line) => line.includes(prefix));
    assert.ok(own.length >= 8, own.join('\n'));
    for (const line of own) assert.equal(line.split(prefix).length - 1, 1, line);
  });
});
