import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createRedisStore } from '../../src/ephemeral/redis.ts';
import { connectRedis, type RedisConnection } from '../../src/ephemeral/redis-connection.ts';
import type { EphemeralStore } from '../../src/ephemeral/store.ts';
import { isUnavailable, minuteMs, newKey, openRedis, sendBudget } from '../ephemeral.ts';
import { ask, waitFor } from './redis-groups.ts';
import { type PrivateServer, reasonToSkip, startRedis } from './servers.ts';

const nowMs = Date.now();
const entry = { digest: 'right', payload: 'payload', expiresAtMs: nowMs + minuteMs, tries: 5 };

describe('what was refused while a Redis stood still', { skip: reasonToSkip('redis') }, () => {
  let server: PrivateServer;
  let client: RedisConnection;
  let store: EphemeralStore;

  before(async () => {
    server = await startRedis();
    client = await openRedis(server.url);
    store = createRedisStore(client, '');
  });
  after(async () => {
    await store?.close();
    await server?.remove();
  });

  async function whileFrozen(act: () => Promise<void>): Promise<void> {
    server.freeze();
    try {
      await act();
    } finally {
      server.thaw();
    }
    // What waited for the server has been carried out before this answers.
    await waitFor(() =>
      store.ping().then(
        () => true,
        () => false,
      ),
    );
  }

  const cases: Record<string, () => Promise<void>> = {
    'although it knows the scripts': async () => {},
    'and also where it has forgotten the scripts': async () => void (await ask(server.url, ['SCRIPT', 'FLUSH'])),
  };
  for (const [name, prepare] of Object.entries(cases)) {
    test(`is not done when it wakes: no entry is put, taken or tried, and no use is recorded, ${name}`, async () => {
      const [replaced, taken, tried, fresh, budget] = Array.from({ length: 5 }, newKey) as [string, ...string[]];
      for (const key of [replaced, taken, tried]) await store.put(String(key), { ...entry, tries: 1 }, nowMs);
      await prepare();
      await whileFrozen(async () => {
        const late = { ...entry, payload: 'late' };
        const refused = [
          store.put(replaced, late, nowMs),
          store.put(String(fresh), late, nowMs),
          store.take(String(taken), ['right'], nowMs),
          store.take(String(tried), ['wrong'], nowMs),
          store.spend(String(budget), sendBudget, nowMs),
        ];
        await Promise.all(refused.map((answer) => assert.rejects(answer, isUnavailable)));
      });
      // Without its try the entry would be gone.
      for (const key of [replaced, taken, tried]) {
        assert.equal(await store.take(String(key), ['right'], nowMs), 'payload', String(key));
      }
      assert.equal(await store.peek(String(fresh), 'right', nowMs), undefined);
      assert.deepEqual(await ask(server.url, ['EXISTS', String(budget)]), 0);
    });
  }

  test('says so to whoever still listens, so that nothing that was not done is taken for done', async () => {
    const key = newKey();
    let answer: Promise<unknown> = Promise.resolve();
    await whileFrozen(async () => {
      answer = assert.rejects(
        client.latchkeyPut(key, 'right', 'late', String(entry.expiresAtMs), '', String(nowMs)),
        /LATE/,
      );
      await sleep(1_100);
    });
    await answer;
  });
});

describe('a Redis that stands still for long', { skip: reasonToSkip('redis') }, () => {
  test('is connected to anew after seconds, and serves within five of its return', async (t) => {
    const server = await startRedis();
    const errors: string[] = [];
    const client = await openRedis(server.url, (error) => errors.push(error.message));
    const store = createRedisStore(client, '');
    try {
      server.freeze();
      await waitFor(async () => !client.isReady);
      assert.deepEqual(errors, [], 'it is sent nothing more before its connection is given up');
      const startedAtMs = performance.now();
      await assert.rejects(store.put(newKey(), entry, nowMs), isUnavailable);
      assert.ok(performance.now() - startedAtMs < 200, 'it is refused at once, and not after the deadline');
      await sleep(3_000);
      server.thaw();
      const thawedAtMs = performance.now();
      await waitFor(() =>
        store.put(newKey(), entry, nowMs).then(
          () => true,
          () => false,
        ),
      );
      const tookMs = performance.now() - thawedAtMs;
      t.diagnostic(`measured: codes work ${Math.round(tookMs)} ms after a Redis that stood still for 6 s goes on`);
      assert.ok(tookMs < 5_000, `it took ${tookMs} ms`);
      assert.match(errors.join('\n'), /no answer within 4000 ms/);
    } finally {
      await store.close();
      await server.remove();
    }
  });
});

describe('a connection', { skip: reasonToSkip('redis') }, () => {
  let server: PrivateServer;
  before(async () => {
    server = await startRedis();
  });
  after(() => server?.remove());

  test('that is closed while it is made is not finished afterwards', async () => {
    const errors: Error[] = [];
    for (let turn = 0; turn < 20; turn += 1) connectRedis(server.url, (error) => errors.push(error)).close();
    await sleep(200);
    const clients = await ask<string>(server.url, ['CLIENT', 'LIST']);
    assert.equal(clients.trim().split('\n').length, 1, clients);
    assert.deepEqual(errors, [], 'leaving is nobody’s trouble');
  });

  test('that loses the answers takes back the use that was recorded in time and refused', async () => {
    const link = await startLink(server.url);
    const client = await openRedis(link.url);
    const store = createRedisStore(client, '');
    try {
      const key = newKey();
      // A script that the server does not know would wait for the answer that says so.
      await store.spend(newKey(), sendBudget, nowMs);
      link.holdAnswers();
      const refused = assert.rejects(store.spend(key, sendBudget, nowMs), isUnavailable);
      await waitFor(async () => (await ask(server.url, ['LLEN', key])) === 1);
      await refused;
      await waitFor(async () => (await ask(server.url, ['LLEN', key])) === 0);
    } finally {
      await store.close();
      link.close();
    }
  });

  test('that breaks under a command has it refused when it can no longer be carried out, and not before', async () => {
    const link = await startLink(server.url);
    const client = await openRedis(link.url);
    const store = createRedisStore(client, '');
    try {
      await store.put(newKey(), entry, nowMs);
      const [key, other] = [newKey(), newKey()];
      server.freeze();
      const startedAtMs = performance.now();
      const refused = assert.rejects(store.put(key, entry, nowMs), isUnavailable);
      await sleep(100);
      link.cut();
      await waitFor(async () => !client.isReady);
      await assert.rejects(store.put(other, entry, nowMs), isUnavailable);
      assert.ok(performance.now() - startedAtMs < 700, 'what is not sent at all is refused at once');
      await refused;
      const tookMs = performance.now() - startedAtMs;
      assert.ok(tookMs >= 1_000 && tookMs < 2_000, `it was refused after ${tookMs} ms`);
      server.thaw();
      assert.deepEqual(await ask(server.url, ['EXISTS', key, other]), 0);
    } finally {
      server.thaw();
      await store.close();
      link.close();
    }
  });
});

type Link = { url: string; holdAnswers(): void; cut(): void; close(): void };

/** Passes connections on to a server; on demand nothing comes back, or they break. */
async function startLink(serverUrl: string): Promise<Link> {
  const pairs: { near: Socket; far: Socket }[] = [];
  const proxy = createServer((near) => {
    const far = connect(Number(new URL(serverUrl).port), '127.0.0.1');
    for (const socket of [near, far]) socket.on('error', () => {});
    near.pipe(far);
    far.pipe(near);
    pairs.push({ near, far });
  }).listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  const { port } = proxy.address() as AddressInfo;
  return {
    url: `redis://127.0.0.1:${port}`,
    holdAnswers() {
      for (const { near, far } of pairs) far.unpipe(near);
    },
    cut() {
      for (const { near } of pairs) near.resetAndDestroy();
    },
    close() {
      for (const socket of pairs.flatMap(({ near, far }) => [near, far])) socket.destroy();
      proxy.close();
    },
  };
}
