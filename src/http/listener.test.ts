import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, get, type IncomingMessage } from 'node:http';
import { connect, type Socket } from 'node:net';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fastify } from 'fastify';
import type { ApiInstance } from './api.ts';
import { listen, listenAddresses } from './listener.ts';

// Two addresses of this machine stand for the two of localhost, of which IPv6 may be absent.
const addresses: [string, string] = ['127.0.0.1', '127.0.0.2'];
const longMs = 60_000;

describe('the listener', () => {
  test('serves on every address of the host', async () => {
    const { listener, origins } = await start();
    for (const origin of origins) assert.equal(await text(`${origin}/quick`), 'quick');
    await listener.close(longMs);
    for (const origin of origins) await assert.rejects(fetch(`${origin}/quick`));
  });

  test('waits when it closes for the requests under way on every address', async () => {
    const { listener, origins, release, arrived } = await start();
    const answers = origins.map((origin) => text(`${origin}/slow`));
    await arrived(2);
    const closed = listener.close(longMs);
    for (const origin of origins) await assert.rejects(fetch(`${origin}/quick`));
    release();
    assert.deepEqual(await Promise.all(answers), ['slow', 'slow']);
    await closed;
  });

  for (const [index, address] of addresses.entries()) {
    test(`is closed only when a request on ${address} has its answer, and not when its client lets go`, async () => {
      const { listener, origins, release, arrived } = await start();
      const agent = new Agent({ keepAlive: true });
      const response = new Promise<IncomingMessage>((resolve) => {
        get(`${origins[index]}/slow`, { agent }, resolve);
      });
      await arrived(1);
      let isClosed = false;
      const closed = listener.close(longMs).then(() => {
        isClosed = true;
      });
      await assert.rejects(fetch(`${origins[index]}/quick`));
      // Longer than closing takes where nothing is under way.
      await sleep(200);
      assert.equal(isClosed, false);
      release();
      (await response).resume();
      const limit = setTimeout(() => agent.destroy(), 5_000);
      const releasedAtMs = performance.now();
      await closed;
      clearTimeout(limit);
      assert.ok(performance.now() - releasedAtMs < 2_000);
      agent.destroy();
    });
  }

  test('cuts at the limit what has not finished, on every address', async () => {
    const { listener, origins, arrived } = await start();
    const halves = await Promise.all(origins.map(sendHalf));
    const answers = origins.map((origin) => assert.rejects(text(`${origin}/slow`)));
    await arrived(2);
    await listener.close(100);
    await Promise.all([...answers, ...halves.map((socket) => socket.destroyed || once(socket, 'close'))]);
  });

  test('does not start where one of the addresses is in use, and holds none of the others then', async () => {
    const other = await start(['127.0.0.2']);
    const port = Number(new URL(other.origins[0] ?? '').port);
    await assert.rejects(start(addresses, port), { code: 'EADDRINUSE', address: '127.0.0.2' });
    const { listener } = await start(['127.0.0.1'], port);
    await Promise.all([listener.close(longMs), other.listener.close(longMs)]);
  });

  test('listens to localhost on its addresses and to every other host as it is named', async () => {
    assert.deepEqual(await listenAddresses('0.0.0.0'), ['0.0.0.0']);
    assert.deepEqual(await listenAddresses('auth.example.com'), ['auth.example.com']);
    const local = await listenAddresses('localhost');
    assert.ok(local.every((address) => ['127.0.0.1', '::1'].includes(address)));
    assert.equal(new Set(local).size, local.length);
  });
});

async function start(on: [string, ...string[]] = addresses, port = 0) {
  const gate = Promise.withResolvers<string>();
  let waiting = 0;
  const app = fastify();
  app.get('/quick', async () => 'quick');
  app.get('/slow', () => {
    waiting += 1;
    return gate.promise;
  });
  const listener = await listen(app as unknown as ApiInstance, on, port);
  const address = app.server.address();
  const boundPort = typeof address === 'object' ? address?.port : undefined;
  return {
    listener,
    origins: on.map((host) => `http://${host}:${boundPort}`),
    release: () => gate.resolve('slow'),
    async arrived(count: number) {
      while (waiting < count) await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

/** Begins a request and never ends it. */
async function sendHalf(origin: string): Promise<Socket> {
  const { hostname, port } = new URL(origin);
  const socket = connect({ host: hostname, port: Number(port) }).on('error', () => {});
  await once(socket, 'connect');
  socket.write('POST /quick HTTP/1.1\r\nHost: x\r\nContent-Le');
  return socket;
}

async function text(url: string): Promise<string> {
  return (await fetch(url)).text();
}
