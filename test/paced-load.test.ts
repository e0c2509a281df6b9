import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, test } from 'node:test';
import { encodeRequest } from '../bench/http-connection.ts';
import { measurePacedLoad } from '../bench/paced-load.ts';

const ratePerSecond = 500;
const held = 25;

/** A service that answers nobody until so many requests wait, and from then on everybody at once. */
async function startStallingServer() {
  const waiting: ServerResponse[] = [];
  let asked = 0;
  const server = createServer((_request, response) => {
    asked += 1;
    waiting.push(response);
    if (asked < held) return;
    for (const held of waiting.splice(0)) held.end('{}');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { server, origin, countAsked: () => asked };
}

describe('the steady load of the benchmarks', () => {
  test('it goes on asking while the service stands still, and counts from when each request was due', async () => {
    const { server, origin, countAsked } = await startStallingServer();
    const end = new AbortController();
    const request = encodeRequest(origin, { method: 'GET', path: '/' });
    let replies = 0;
    const latenciesMs = await measurePacedLoad({
      origin,
      ratePerSecond,
      next: () => request,
      check() {
        replies += 1;
        if (replies === 2 * held) end.abort();
      },
      signal: end.signal,
    });
    assert.equal(latenciesMs.length, countAsked());
    // The first was due when it began, and was answered when the 25th had come.
    const longest = Math.max(...latenciesMs);
    // A timer may be early by the part of a millisecond that it does not count.
    const stallMs = ((held - 1) * 1000) / ratePerSecond - 1;
    assert.ok(longest >= stallMs, `${longest} ms, and the stall was ${stallMs} ms at least`);
    // Those that came during the stall waited the less, the later they came: each is seen.
    assert.ok(latenciesMs.filter((ms) => ms >= stallMs / 2).length >= held / 2, latenciesMs.join(', '));
    server.close();
  });

  test('a reply that is not the expected one fails it', async () => {
    const { server, origin } = await startStallingServer();
    const request = encodeRequest(origin, { method: 'GET', path: '/' });
    const load = measurePacedLoad({
      origin,
      ratePerSecond,
      next: () => request,
      check() {
        throw new Error('not what was expected');
      },
      signal: new AbortController().signal,
    });
    await assert.rejects(load, /not what was expected/);
    server.closeAllConnections();
    server.close();
  });
});
