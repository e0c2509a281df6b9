import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { buildApp } from '../../src/app.ts';
import type { ApiInstance } from '../../src/http/api.ts';
import { type ConnectionLimits, connectionLimits } from '../../src/http/connection-limits.ts';
import { listen } from '../../src/http/listener.ts';
import { assertProblem, takeStock } from '../client.ts';
import { converse, host, parseReply } from '../hostile-socket.ts';
import { type System, startSystem } from '../system.ts';
import { until } from '../until.ts';

const json = 'Content-Type: application/json';
const live = `GET /health/live HTTP/1.1\r\n${host}\r\n\r\n`;
const unfinishedHeaders = `POST /auth/login HTTP/1.1\r\n${host}\r\nX-Slow: `;
const unfinishedBody = `POST /auth/login HTTP/1.1\r\n${host}\r\n${json}\r\nContent-Length: 100\r\n\r\n{"email":`;
// Twenty megabytes, which is more than the system's buffers take for a client that does not read.
const unread = `GET /openapi.json HTTP/1.1\r\n${host}\r\n\r\n`.repeat(100);

const opened: Socket[] = [];

describe('connections', () => {
  let system: System;
  const apps: ApiInstance[] = [];

  before(async () => {
    system = await startSystem('sqlite+memory');
  });
  after(async () => {
    for (const socket of opened) socket.destroy();
    for (const app of apps) app.server.closeAllConnections();
    for (const app of apps) await app.close();
    await system.close();
  });

  /** Serves the system with limits of its own. */
  async function serve(limits: Partial<ConnectionLimits>): Promise<System> {
    const app = await buildApp(system.deps, { ...connectionLimits, ...limits });
    apps.push(app);
    await app.listen({ host: '127.0.0.1', port: 0 });
    return { ...system, app };
  }

  test('five hundred that send or read slowly do not keep others waiting, and are ended at their limits', async () => {
    const serving = await serve({ headersMs: 2_500, requestMs: 2_500, checkEveryMs: 100, silenceMs: 3_000 });
    const { port } = serving.app.server.address() as AddressInfo;
    const origin = `http://127.0.0.1:${port}`;
    const before = await takeStock(system);
    const kinds: [string, string, number][] = [
      ['unread', unread, 10],
      ['silent', '', 170],
      ['unfinishedHeaders', unfinishedHeaders, 160],
      ['unfinishedBody', unfinishedBody, 160],
    ];
    const sockets = await Promise.all(
      kinds.flatMap(([kind, bytes, count]) => Array.from({ length: count }, () => open(port, kind, bytes))),
    );
    await until(async () => (await connectionsOf(serving)) === 500);
    // One byte now and then does not prolong anything. It may meet the reset that overtakes the answer.
    const dripping = new Set(sockets.filter(({ kind }, index) => kind.startsWith('unfinished') && index % 2 === 0));
    const drip = setInterval(() => {
      for (const { socket } of dripping) socket.write('x');
    }, 200).unref();
    const answeredInMs: number[] = [];
    const giveUpAtMs = performance.now() + 15_000;
    // One is that of the questions.
    while ((await connectionsOf(serving)) > 1) {
      const startedAtMs = performance.now();
      assert.equal((await fetch(`${origin}/health/live`, { signal: AbortSignal.timeout(5_000) })).status, 200);
      answeredInMs.push(performance.now() - startedAtMs);
      assert.ok(performance.now() < giveUpAtMs, `${await connectionsOf(serving)} are not ended`);
      await sleep(20);
    }
    clearInterval(drip);
    await until(() => sockets.every(({ kind, socket }) => kind === 'unread' || socket.closed));
    const slowest = answeredInMs.toSorted((a, b) => b - a)[Math.floor(answeredInMs.length / 20)] ?? 0;
    console.log(
      `measured: ${answeredInMs.length} requests beside 500 slow connections, 95 % within ${slowest.toFixed(0)} ms`,
    );
    assert.ok(slowest < 1_000, `${slowest} ms`);
    for (const slow of sockets.filter(({ kind }) => kind.startsWith('unfinished'))) {
      const { kind, received } = slow;
      if (received() === '' && dripping.has(slow)) continue;
      assertProblem(parseReply(received()), 'request_timeout');
      assert.equal(received().match(/HTTP\/1\.1/g)?.length, 1, kind);
    }
    assert.deepEqual(await takeStock(system), before);
  });

  test('one more than there may be is closed without an answer, and there is room again when one leaves', async () => {
    const serving = await serve({ connections: 3 });
    const { port } = serving.app.server.address() as AddressInfo;
    const kept = await Promise.all([1, 2, 3].map(() => open(port, 'kept', live)));
    await until(() => kept.every(({ received }) => received().includes('200 OK')));
    const refused = await open(port, 'refused', live);
    await refused.closed;
    assert.equal(refused.received(), '');
    kept[0]?.socket.write(live);
    await until(() => kept[0]?.received().match(/200 OK/g)?.length === 2);
    kept[1]?.socket.destroy();
    await until(async () => (await connectionsOf(serving)) < 3);
    const next = await open(port, 'next', live);
    await until(() => next.received().includes('200 OK'));
    for (const { socket } of [...kept, next]) socket.destroy();
  });

  test('after its last request a connection is closed, and what was sent behind it is not answered', async () => {
    const serving = await serve({ requestsPerConnection: 3 });
    const text = await converse(serving, live.repeat(5));
    assert.equal(text.match(/HTTP\/1\.1 200/g)?.length, 3);
    assert.equal(text.match(/HTTP\/1\.1/g)?.length, 3);
    assert.match(parseReply(text.slice(text.lastIndexOf('HTTP/1.1'))).headers.connection ?? '', /^close$/i);
  });

  test('a hundred headers are read and one more is refused, and none is dropped in silence', async () => {
    const request = (count: number, last = 'X-Last: 1') => {
      const fillers = Array.from({ length: count - 3 }, (_, index) => `X-${index}:`);
      return `${['GET /health/live HTTP/1.1', host, 'Connection: close', ...fillers, last].join('\r\n')}\r\n\r\n`;
    };
    const serving = await serve({});
    assert.equal(parseReply(await converse(serving, request(100))).status, 200);
    assertProblem(parseReply(await converse(serving, request(100, host))), 'malformed_request');
    for (const count of [101, 2_100]) {
      assertProblem(parseReply(await converse(serving, request(count))), 'request_header_fields_too_large');
    }
  });

  test('in the moment of a stop one that is reused is answered and told so, and a new one is not taken', async () => {
    const stopping = await startSystem('sqlite+memory');
    const listener = await listen(stopping.app, ['127.0.0.1'], 0);
    const { port } = stopping.app.server.address() as AddressInfo;
    const [kept, idle] = [await open(port, 'kept', live), await open(port, 'idle', live)];
    await until(() => [kept, idle].every(({ received }) => received().includes('200 OK')));
    stopping.deps.beginStopping();
    const startedAtMs = performance.now();
    const closed = listener.close(5_000);
    await assert.rejects(once(connect({ host: '127.0.0.1', port }), 'connect'));
    kept.socket.write(live);
    await kept.closed;
    const answers = kept.received().split(/(?=HTTP\/1\.1)/);
    assert.deepEqual(
      answers.map((text) => [parseReply(text).status, parseReply(text).headers.connection]),
      [
        [200, 'keep-alive'],
        [200, 'close'],
      ],
    );
    await Promise.all([idle.closed, closed]);
    assert.ok(performance.now() - startedAtMs < 4_000);
    await stopping.close();
  });
});

function connectionsOf({ app }: System): Promise<number> {
  return promisify(app.server.getConnections).call(app.server);
}

/** Opens a connection, sends bytes and keeps what comes back; a client named unread takes nothing. */
async function open(port: number, kind: string, bytes: string) {
  const socket: Socket = connect({ host: '127.0.0.1', port });
  let text = '';
  opened.push(socket);
  socket.on('error', () => {});
  const closed = once(socket, 'close');
  if (kind !== 'unread') {
    socket.setEncoding('latin1').on('data', (chunk) => {
      text += chunk;
    });
  }
  await once(socket, 'connect');
  if (bytes !== '') socket.write(bytes, 'latin1');
  return { kind, socket, closed, received: () => text };
}
