import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createRedisStore } from '../../src/ephemeral/redis.ts';
import type { RedisConnection } from '../../src/ephemeral/redis-connection.ts';
import { connectRedis } from '../../src/ephemeral/redis-connection.ts';
import { isUnavailable, minuteMs, newKey, openRedis } from '../ephemeral.ts';
import { ask, type Member, startDividedSentinels, waitFor } from './redis-groups.ts';
import { type PrivateServer, reasonToSkip, startRedis } from './servers.ts';

/** Says what it is told to say, as a sentinel does that is cut off from the others. Undefined: it says nothing. */
type Parrot = { port: number; name(server: PrivateServer | undefined): void; close(): void };

const nowMs = Date.now();
const entry = { digest: 'right', payload: 'payload', expiresAtMs: nowMs + minuteMs };

describe('when sentinels do not agree', { skip: reasonToSkip('redis') }, () => {
  let one: PrivateServer;
  let other: PrivateServer;
  let replica: PrivateServer;
  const parrots: Parrot[] = [];

  before(async () => {
    [one, other] = await Promise.all([startRedis(), startRedis()]);
    replica = await startRedis([`replicaof 127.0.0.1 ${portOf(one)}`]);
    parrots.push(...(await Promise.all([1, 2, 3].map(startParrot))));
  });
  after(async () => {
    for (const parrot of parrots) parrot.close();
    await Promise.all([one, other, replica].map((server) => server?.remove()));
  });

  async function withConnection(act: (client: RedisConnection) => Promise<void>): Promise<void> {
    const hosts = parrots.map(({ port }) => `127.0.0.1:${port}`).join(',');
    const client = connectRedis(`redis+sentinel://${hosts}/main`, () => {});
    try {
      await act(client);
    } finally {
      client.close();
    }
  }

  /** Where a command goes now; undefined when it is refused. */
  async function whereItGoes(client: RedisConnection): Promise<PrivateServer | undefined> {
    const key = newKey();
    const wasDone = await client.eval("return redis.call('SET', KEYS[1], 1)", { keys: [key], arguments: [] }).then(
      () => true,
      () => false,
    );
    for (const server of [one, other]) if (wasDone && (await ask(server.url, ['EXISTS', key])) === 1) return server;
    assert.equal(wasDone, false);
    return undefined;
  }

  test('the master that most of them name is used, and the other one when most of them name that', async () => {
    nameAll([one, other, other]);
    await withConnection(async (client) => {
      await waitFor(async () => (await whereItGoes(client)) === other);
      for (let turn = 0; turn < 10; turn += 1) {
        await sleep(50);
        assert.equal(await whereItGoes(client), other);
      }
      nameAll([one, one, other]);
      await waitFor(async () => (await whereItGoes(client)) === one);
    });
  });

  test('what is no master by its own word is not used, whoever names it', async () => {
    nameAll([replica, replica, one]);
    await withConnection(async (client) => {
      await waitFor(async () => (await whereItGoes(client)) === one);
      nameAll([replica, replica, replica]);
      await waitFor(async () => !client.isReady);
      assert.equal(await whereItGoes(client), undefined);
      await assert.rejects(client.ping());
    });
  });

  test('those that stand still are not believed for longer than three seconds', async () => {
    nameAll([one, one, other]);
    await withConnection(async (client) => {
      await waitFor(async () => (await whereItGoes(client)) === one);
      nameAll([undefined, undefined, other]);
      const startedAtMs = performance.now();
      await waitFor(async () => (await whereItGoes(client)) === other);
      const tookMs = performance.now() - startedAtMs;
      assert.ok(tookMs > 1_500 && tookMs < 5_000, `it took ${tookMs} ms`);
      // And when nobody says anything any more, what was said last holds.
      nameAll([undefined, undefined, undefined]);
      await sleep(3_500);
      assert.equal(await whereItGoes(client), other);
    });
  });

  function nameAll(servers: (PrivateServer | undefined)[]): void {
    for (const [index, parrot] of parrots.entries()) parrot.name(servers[index]);
  }
});

describe('when sentinels know of different failovers', { skip: reasonToSkip('redis') }, () => {
  type Divided = Awaited<ReturnType<typeof startDividedSentinels>>;

  /** Gives the test a store that has heard of this master and writes there, and what counts the keys of the other. */
  async function withStoreOn(
    divided: Divided,
    { master, other }: { master: Member; other: Member },
    work: (put: () => Promise<void>, countOnOther: () => Promise<number>) => Promise<void>,
  ): Promise<void> {
    const client = await openRedis(divided.url).catch(async (error) => {
      await divided.remove();
      throw error;
    });
    const store = createRedisStore(client, '');
    try {
      const put = () => store.put(newKey(), entry, nowMs);
      const countOn = ({ url }: Member) => ask<number>(url, ['DBSIZE']);
      await waitFor(async () => {
        await put().catch((error) => assert.ok(isUnavailable(error)));
        return (await countOn(master)) > 0;
      });
      await work(put, () => countOn(other));
    } finally {
      await store.close();
      await divided.remove();
    }
  }

  test('the master of the newest one is used, and the older is no second choice', async () => {
    const divided = await startDividedSentinels({ isEpochTold: true });
    const { newer, older } = divided;
    await withStoreOn(divided, { master: newer, other: older }, async (put, countOnOlder) => {
      const before = await countOnOlder();
      await tenTimes(put);
      await newer.stop();
      await tenTimes(() => assert.rejects(put(), isUnavailable));
      assert.equal(await countOnOlder(), before);
    });
  });

  test('the master that most of them name is used where they may not be asked about failovers', async () => {
    const divided = await startDividedSentinels({ isEpochTold: false });
    const { newer, older } = divided;
    await withStoreOn(divided, { master: older, other: newer }, async (put, countOnNewer) => {
      const before = await countOnNewer();
      await tenTimes(put);
      assert.equal(await countOnNewer(), before);
    });
  });
});

/** Over a second, in which every sentinel is heard twice. */
async function tenTimes(act: () => Promise<void>): Promise<void> {
  for (let turn = 0; turn < 10; turn += 1) {
    await act();
    await sleep(100);
  }
}

function portOf(server: PrivateServer): string {
  return new URL(server.url).port;
}

async function startParrot(): Promise<Parrot> {
  let named: PrivateServer | undefined;
  const sockets: Socket[] = [];
  const listener = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    socket.on('data', (data) => {
      for (const command of data.toString().split(/(?=\*\d)/)) {
        if (!/SENTINEL/.test(command)) socket.write('+OK\r\n');
        else if (named !== undefined)
          socket.write(`*2\r\n$9\r\n127.0.0.1\r\n$${portOf(named).length}\r\n${portOf(named)}\r\n`);
      }
    });
  }).listen(0, '127.0.0.1');
  await once(listener, 'listening');
  return {
    port: (listener.address() as AddressInfo).port,
    name(server) {
      named = server;
    },
    close() {
      for (const socket of sockets) socket.destroy();
      listener.close();
    },
  };
}
