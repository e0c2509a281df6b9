import assert from 'node:assert/strict';
import { test } from 'node:test';
import { takeStock } from './client.ts';
import { converse, host, parseReply } from './hostile-socket.ts';
import { smugglingShapes } from './smuggling-shapes.ts';
import { describeOnBackends } from './system.ts';

describeOnBackends('a request that hides another', {}, (system) => {
  for (const { title, lines, body } of smugglingShapes(host)) {
    test(`is answered once at most, and the connection ends: ${title}`, async () => {
      const before = await takeStock(system());
      const text = await converse(system(), `${lines.join('\r\n')}\r\n\r\n${body}`);
      const statuses = [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => status);
      assert.ok(statuses.length <= 1, text);
      // Nothing may be carried out of what is read in two ways.
      assert.ok(
        statuses.every((status) => status === '400' || status === '431'),
        text,
      );
      assert.deepEqual(await takeStock(system()), before);
    });
  }

  test('is no way to another protocol: the answer is in HTTP/1.1', async () => {
    for (const upgrade of [
      'Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: Upgrade, HTTP2-Settings, close',
      'Upgrade: websocket\r\nConnection: Upgrade, close\r\nSec-WebSocket-Version: 13',
    ]) {
      const text = await converse(system(), `GET /health/live HTTP/1.1\r\n${host}\r\n${upgrade}\r\n\r\n`);
      assert.equal(parseReply(text).status, 200);
      assert.equal(text.match(/HTTP\/1\.1/g)?.length, 1);
    }
  });

  test('of a whole URL is read by its path alone, and no answer repeats the host that it names', async () => {
    for (const [target, expected] of [
      ['http://latchkey.test/health/live', 200],
      ['http://evil.example/health/live', 200],
      ['http://latchkey.test@evil.example/', 404],
      ['//evil.example/health/live', 404],
      ['*', 404],
    ] as const) {
      const text = await converse(system(), `GET ${target} HTTP/1.1\r\n${host}\r\nConnection: close\r\n\r\n`);
      assert.equal(parseReply(text).status, expected, `${target}: ${text}`);
      assert.doesNotMatch(text, /evil/);
    }
  });
});
