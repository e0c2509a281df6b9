import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { assertProblem } from '../../test/client.ts';
import { converse, host, parseReply } from '../../test/hostile-socket.ts';
import { type System, startSystem } from '../../test/system.ts';

const login = '{"email":"nobody@example.com","password":"x"}';
const slowLogin = [
  'POST /auth/login HTTP/1.1',
  host,
  'Content-Type: application/json',
  `Content-Length: ${login.length}`,
  '',
  login,
].join('\r\n');
const brokenUpload = `POST /auth/login HTTP/1.1\r\n${host}\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\nzz\r\n`;

describe('what Node cannot read', () => {
  let system: System;
  before(async () => {
    system = await startSystem('sqlite+memory', { BCRYPT_COST: '10' });
  });
  after(() => system.close());

  test('behind a request is not answered before it: the connection ends after the answer', async () => {
    for (const behind of ['garbage\r\n\r\n', brokenUpload, 'GET / HTTP/9.9\r\n\r\n', 'x'.repeat(40_000)]) {
      const text = await converse(system, slowLogin + behind);
      assert.equal(statuses(text).join(), '401', `${behind.slice(0, 20)}: ${text}`);
      assertProblem(parseReply(text), 'invalid_credentials');
    }
  });

  test('behind two requests is not answered before either', async () => {
    assert.deepEqual(statuses(await converse(system, `${slowLogin}${slowLogin}garbage\r\n\r\n`)), ['401', '401']);
  });

  test('alone on its connection is refused, at the first line and in a body', async () => {
    for (const alone of ['garbage\r\n\r\n', brokenUpload]) {
      const text = await converse(system, alone);
      assert.deepEqual(statuses(text), ['400']);
      assertProblem(parseReply(text), 'malformed_request');
    }
  });
});

function statuses(text: string): string[] {
  return [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status = '']) => status);
}
