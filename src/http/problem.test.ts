import assert from 'node:assert/strict';
import { type AddressInfo, connect } from 'node:net';
import { describe, test } from 'node:test';
import { fastify } from 'fastify';
import { HashAbandonedError } from '../crypto/hash-pool.ts';
import { AppError } from '../errors.ts';
import { sendProblem } from './problem.ts';

type Line = { level: number; msg: string; error_code?: string; reason?: string; err?: { message: string } };

const [debug, error] = [20, 50];

describe('the answer to an error', () => {
  test('is a refusal and no failure when the client breaks off its upload', async () => {
    const { app, lines } = openApp();
    await app.listen({ host: '127.0.0.1', port: 0 });
    const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1');
    socket.write(
      'POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"a":',
    );
    // The headers must have arrived before the connection breaks.
    await new Promise((resolve) => app.server.once('request', resolve));
    socket.resetAndDestroy();
    const line = await found(lines, ({ error_code: code }) => code !== undefined);
    assert.deepEqual([line.level, line.error_code, line.reason], [debug, 'malformed_request', 'ECONNRESET']);
    await app.close();
  });

  test('is 503 and logged with its cause when the database is away', async () => {
    const { app, lines } = openApp(Object.assign(new Error('the database system is shutting down'), { code: '57P01' }));
    const reply = await app.inject({ path: '/fail' });
    assert.deepEqual([reply.statusCode, reply.json().code], [503, 'temporarily_unavailable']);
    assert.match(reply.headers['retry-after'] as string, /^[1-9]\d*$/);
    const line = await found(lines, ({ msg }) => msg === 'request failed');
    assert.deepEqual([line.level, line.error_code], [error, 'temporarily_unavailable']);
    assert.equal(line.err?.message, 'the database system is shutting down');
  });

  test('is 500 for what nobody foresaw, whatever code it brings, and says nothing of it', async () => {
    const { app, lines } = openApp(Object.assign(new TypeError('secret detail'), { code: 'ERR_INVALID_ARG_TYPE' }));
    const reply = await app.inject({ path: '/fail' });
    assert.deepEqual([reply.statusCode, reply.json().code], [500, 'internal_error']);
    assert.doesNotMatch(reply.body, /secret detail/);
    assert.equal((await found(lines, ({ level }) => level === error)).err?.message, 'secret detail');
  });

  test('to a client that went away while it waited is no failure in the log', async () => {
    const { app, lines } = openApp(new HashAbandonedError('the client went away'));
    assert.equal((await app.inject({ path: '/fail' })).statusCode, 503);
    await found(lines, ({ error_code: code }) => code === 'temporarily_unavailable');
    assert.ok(lines.every(({ level }) => level < error));
  });

  test('never puts into the log what a refused body said', async () => {
    const { app, lines } = openApp(new AppError('malformed_json', { cause: new SyntaxError('… "hunter2" …') }));
    assert.equal((await app.inject({ path: '/fail' })).statusCode, 400);
    await found(lines, ({ error_code: code }) => code === 'malformed_json');
    assert.doesNotMatch(JSON.stringify(lines), /hunter2/);
  });
});

/** An application with our error handling, one route that fails like this, and its log. */
function openApp(failure: Error = new Error('not used')) {
  const lines: Line[] = [];
  const stream = { write: (line: string) => void lines.push(JSON.parse(line)) };
  const app = fastify({ logger: { level: 'debug', stream } });
  app.setErrorHandler((thrown, request, reply) => sendProblem(request, reply, 'http://latchkey.test', thrown));
  app.get('/fail', async () => {
    throw failure;
  });
  app.post('/echo', async (request) => request.body);
  return { app, lines };
}

async function found(lines: readonly Line[], matches: (line: Line) => boolean): Promise<Line> {
  const giveUpAtMs = performance.now() + 5_000;
  for (;;) {
    const line = lines.find(matches);
    if (line !== undefined) return line;
    assert.ok(performance.now() < giveUpAtMs, `in vain waited for a line in ${JSON.stringify(lines)}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
