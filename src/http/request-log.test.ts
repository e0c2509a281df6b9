import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect } from 'node:net';
import { after, before, beforeEach, describe, test } from 'node:test';
import { newEmail, readMe, registerUser } from '../../test/accounts.ts';
import { call } from '../../test/client.ts';
import { converse, host, parseReply } from '../../test/hostile-socket.ts';
import { captureLog } from '../../test/log.ts';
import { readCounts } from '../../test/metrics.ts';
import { type System, startSystem } from '../../test/system.ts';
import { until } from '../../test/until.ts';

describe('the log of requests', () => {
  const log = captureLog();
  let system: System;
  before(async () => {
    system = await startSystem(
      'sqlite+memory',
      { LOG_LEVEL: 'trace', BCRYPT_COST: '10', METRICS_TOKEN: 'x'.repeat(32) },
      log,
    );
  });
  after(() => system.close());
  beforeEach(() => log.clear());

  /** The one line of a request over a socket, which may be written after the reply. */
  async function onlyLine() {
    await until(() => log.requests().length > 0);
    const lines = log.requests();
    assert.equal(lines.length, 1, log.text());
    return lines[0] ?? {};
  }

  test('has one line with id, method, template, status, time and user, and no URL, header or address', async () => {
    const user = await registerUser(system);
    log.clear();
    await readMe(system, user.accessToken);
    const { time, duration_ms, request_id, ...line } = await onlyLine();
    assert.ok(typeof time === 'number' && duration_ms >= 0);
    assert.match(request_id, /^[0-9a-f-]{36}$/);
    assert.deepEqual(line, {
      level: 30,
      method: 'GET',
      route: '/users/me',
      status: 200,
      user_id: user.id,
      msg: 'request',
    });
  });

  test('has the id that the problem document has', async () => {
    const { body } = await call(system, { method: 'GET', path: '/users/me' });
    assert.equal((await onlyLine()).request_id, body.request_id);
  });

  test('has one line for what matches no route, has another method, or is no URL', async () => {
    for (const [method, url, status, route] of [
      ['GET', `/nobody/${newEmail()}`, 404, null],
      ['DELETE', '/auth/login', 405, '/auth/login'],
      ['GET', '/%zz', 400, null],
      ['GET', `/users/me/sessions/${'x'.repeat(200)}`, 400, null],
    ] as const) {
      log.clear();
      const { body } = await system.app.inject({ method, url });
      const line = await onlyLine();
      assert.deepEqual([line.method, line.route, line.level], [method, route, 30], url);
      assert.equal(line.status, JSON.parse(body).status);
      assert.ok(line.status === status || url.length > 200, `${url}: ${line.status}`);
      assert.equal(line.request_id, JSON.parse(body).request_id);
    }
  });

  test('has one line for what Node cannot read, with the id of its answer', async () => {
    const upload = `POST /auth/login HTTP/1.1\r\n${host}\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\nzz\r\n`;
    for (const [bytes, status, route] of [
      ['garbage\r\n\r\n', 400, null],
      [`GET / HTTP/1.1\r\n${host}\r\nX: ${'x'.repeat(40_000)}\r\n\r\n`, 431, null],
      [`GET / HTTP/1.1\r\n${host}\r\nExpect: a-miracle\r\nConnection: close\r\n\r\n`, 400, null],
      [upload, 400, '/auth/login'],
    ] as const) {
      log.clear();
      const reply = parseReply(await converse(system, bytes));
      assert.equal(reply.status, status);
      const line = await onlyLine();
      assert.deepEqual([line.status, line.route], [status, route], bytes.slice(0, 40));
      assert.equal(line.request_id, reply.body.request_id);
    }
  });

  test('has one line for a client that goes away before its answer, and counts it as aborted', async () => {
    const body = JSON.stringify({ email: newEmail(), password: 'x' });
    const head = `POST /auth/login HTTP/1.1\r\n${host}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`;
    const half = head + body.slice(0, 5);
    for (const bytes of [half, head + body]) {
      log.clear();
      const socket = connect({ host: '127.0.0.1', port: (system.app.server.address() as AddressInfo).port });
      await once(socket, 'connect');
      socket.write(bytes);
      const arrived = once(system.app.server, 'request');
      await arrived;
      socket.resetAndDestroy();
      const line = await onlyLine();
      assert.deepEqual([line.method, line.route, line.status, line.aborted], ['POST', '/auth/login', null, true]);
    }
    const counts = await readCounts(system);
    assert.equal(counts.get('latchkey_http_requests_total{method=POST,route=/auth/login,status=aborted}'), 2);
  });

  test('has a failure as an error with its cause once, and both lines with the id of the answer', async () => {
    const user = await registerUser(system);
    await system.deps.db.schema.alterTable('sessions').renameTo('sessions_away').execute();
    log.clear();
    const { status, body } = await readMe(system, user.accessToken);
    await system.deps.db.schema.alterTable('sessions_away').renameTo('sessions').execute();
    assert.equal(status, 500);
    const lines = log.lines().filter(({ level }) => level >= 50);
    assert.deepEqual(lines.map(({ msg }) => msg).sort(), ['request', 'request failed']);
    for (const line of lines) assert.equal(line.request_id, body.request_id);
    const causes = lines.filter(({ err }) => err !== undefined);
    assert.equal(causes.length, 1);
    assert.match(causes[0]?.err.message, /no such table/);
    assert.doesNotMatch(body.title + (body.detail ?? ''), /table/);
  });

  test('leaves polls to the level debug while they succeed', async () => {
    const headers = { authorization: `Bearer ${'x'.repeat(32)}` };
    for (const path of ['/health/live', '/health/ready', '/metrics'])
      await call(system, { method: 'GET', path, headers });
    assert.deepEqual(
      log.requests().map(({ level }) => level),
      [20, 20, 20],
    );
  });
});
