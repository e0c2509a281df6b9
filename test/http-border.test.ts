import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { OpenAPIV3_1 } from 'openapi-types';
import type { ErrorCode } from '../src/errors.ts';
import { assertProblem, type Reply, takeStock } from './client.ts';
import { converse, exchange, host, parseReply } from './hostile-socket.ts';
import { describeOnBackends, type System } from './system.ts';

const apiPolicy = "default-src 'none';frame-ancestors 'none'";
const json = 'Content-Type: application/json';

describeOnBackends('the border of HTTP', {}, (system) => {
  test('headers beyond 16 KiB are refused, in one line, in many and in the request line', async () => {
    const code = 'request_header_fields_too_large';
    const filler = 'x'.repeat(17 * 1024);
    const many = Array.from({ length: 1_000 }, (_, index) => `X-${index}: 0123456789`);
    await refuse(system(), ['GET /health/live HTTP/1.1', host, `X-Filler: ${filler}`], code);
    await refuse(system(), ['GET /health/live HTTP/1.1', host, ...many], code);
    await refuse(system(), [`GET /health/live?${filler} HTTP/1.1`, host], code);
    await refuse(system(), ['GET /users/me HTTP/1.1', host, `Authorization: Bearer ${filler}`], code);
  });

  test('what is not HTTP is refused with a problem document and the connection is closed', async () => {
    const requests = [
      ['hello there'],
      ['GET'],
      ['GET /health/live HTTP/9.9', host],
      ['GET /health/live HTTPS/1.1', host],
      ['GET /health live HTTP/1.1', host],
      ['get /health/live HTTP/1.1', host],
      ['BREW /auth/login HTTP/1.1', host],
      ['GET /health/live HTTP/1.1', host, 'no colon'],
      ['GET /health/live HTTP/1.1', host, 'X-Split: a\rb'],
      ['GET /health/live HTTP/1.1', host, 'X-Nul: a\0b'],
      ['GET /health/live HTTP/1.1', host, 'X-Space : a'],
      ['PRI * HTTP/2.0', '', 'SM'],
    ];
    for (const lines of requests) await refuse(system(), lines, 'malformed_request');
  });

  test('a body of two lengths is refused, and nothing after it is taken for a request', async () => {
    const start = ['POST /auth/send-code HTTP/1.1', host, json];
    const smuggled = `GET /health/live HTTP/1.1\r\n${host}\r\n\r\n`;
    const framings = [
      ['Content-Length: 4', 'Transfer-Encoding: chunked'],
      ['Transfer-Encoding: chunked', 'Content-Length: 4'],
      ['Content-Length: 2', 'Content-Length: 3'],
      ['Content-Length: 2, 2'],
      ['Content-Length: -1'],
      ['Content-Length: 0x2'],
      ['Content-Length: 99999999999999999999999'],
      ['Transfer-Encoding: xchunked'],
      ['Transfer-Encoding: chunked, identity'],
    ];
    for (const framing of framings) {
      await refuse(system(), [...start, ...framing], 'malformed_request', `0\r\n\r\n${smuggled}`);
    }
    await refuse(system(), [...start, 'Transfer-Encoding: chunked'], 'malformed_request', `zz\r\n{}\r\n${smuggled}`);
  });

  test('a body beyond 32 KiB is refused before it has arrived, with and without a length', async () => {
    const start = ['POST /auth/send-code HTTP/1.1', host, json];
    await refuse(system(), [...start, 'Content-Length: 999999999'], 'content_too_large', '{');
    const chunk = `8001\r\n${' '.repeat(0x8001)}\r\n`;
    await refuse(system(), [...start, 'Transfer-Encoding: chunked'], 'content_too_large', chunk);
  });

  test('a URL that cannot be decoded is refused, and a path that is not there is not found', async () => {
    for (const path of ['/users/%zz', '/%ff', '/auth/login%', '/%c0%ae%c0%ae/', '/users/%e0%a4%a']) {
      for (const method of ['GET', 'POST', 'OPTIONS', 'TRACE']) {
        const reply = await exchange(system(), method, path);
        assertProblem(reply, 'malformed_request');
        assertProblemHeaders(reply);
      }
    }
    const absent = ['/', '/nope', '/auth', '/auth/login/', '//auth/login', '/AUTH/LOGIN', '/auth/%2e%2e/users/me'];
    const hidden = ['/.env', '/docs/static/..%2f..%2fpackage.json', '/dev/mailbox', '/%00', '/health/live%2f', '/*'];
    for (const path of [...absent, ...hidden]) {
      for (const method of ['GET', 'POST']) assertProblem(await exchange(system(), method, path), 'not_found');
    }
  });

  test('every path answers every other method that can be read with 405 and the methods that it has', async () => {
    const { supportedMethods } = system().app;
    for (const method of ['TRACE', 'QUERY', 'OPTIONS', 'HEAD']) assert.ok(supportedMethods.includes(method), method);
    const before = await takeStock(system());
    for (const [path, answered] of listAnsweredMethods(system())) {
      for (const method of supportedMethods.filter((candidate) => !answered.includes(candidate))) {
        const reply = await exchange(system(), method, path);
        assert.equal(reply.status, 405, `${method} ${path}`);
        assert.equal(reply.headers.allow, answered.join(', '), `${method} ${path}`);
        if (method === 'HEAD') assert.equal(reply.text, '');
        else assertProblem(reply, 'method_not_allowed');
      }
    }
    assert.deepEqual(await takeStock(system()), before);
  });

  test('a method that is no method here, on a path that is not there, is not found', async () => {
    for (const method of ['TRACE', 'OPTIONS', 'PROPFIND', 'M-SEARCH']) {
      const reply = await exchange(system(), method, '/nope');
      assertProblem(reply, 'not_found');
      assertProblemHeaders(reply);
    }
  });

  test('a request of HTTP/1.1 names one host, and HTTP/1.0 at most one (RFC 9112 section 3.2)', async () => {
    const body = '{"email":"ada@example.com","purpose":"registration"}';
    const post = ['POST /auth/send-code HTTP/1.1', json, `Content-Length: ${body.length}`];
    const other = 'Host: evil.example';
    for (const start of [['GET /health/live HTTP/1.1'], ['GET /nope HTTP/1.1'], ['TRACE /auth/login HTTP/1.1'], post]) {
      const request = [...start, 'Connection: close'];
      const sent = start === post ? body : '';
      await refuse(system(), request, 'malformed_request', sent);
      for (const second of [host, other, host.toLowerCase(), 'HOST:', 'Host: a, b']) {
        await refuse(system(), [...request, host, second], 'malformed_request', sent);
        await refuse(system(), [...request, second, host], 'malformed_request', sent);
      }
    }
    await refuse(system(), ['GET /health/live HTTP/1.0', host, other], 'malformed_request');
    for (const lines of [['GET /health/live HTTP/1.0'], ['GET /health/live HTTP/1.1', host, 'Connection: close']]) {
      assert.equal(parseReply(await converse(system(), `${lines.join('\r\n')}\r\n\r\n`)).status, 200);
    }
  });

  test('an expectation that cannot be met is refused, and 100-continue is met', async () => {
    const body = '{"email":"ada@example.com","purpose":"registration"}';
    const post = (path: string) => [`POST ${path} HTTP/1.1`, host, json, `Content-Length: ${body.length}`];
    for (const expectation of ['tea', '100-continues', '200-ok', 'x'.repeat(1_000)]) {
      const expect = `Expect: ${expectation}`;
      await refuse(system(), ['GET /health/live HTTP/1.1', host, expect], 'malformed_request');
      await refuse(system(), [...post('/auth/send-code'), expect], 'malformed_request', body);
    }
    const lines = [...post('/auth/login'), 'Expect: 100-continue', 'Connection: close'];
    const text = await converse(system(), `${lines.join('\r\n')}\r\n\r\n${body}`);
    assert.deepEqual(text.match(/HTTP\/1\.1 \d{3}/g), ['HTTP/1.1 100', 'HTTP/1.1 422']);
  });

  test('HEAD is answered like GET, without the body', async () => {
    for (const path of [
      '/health/live',
      '/health/ready',
      '/.well-known/jwks.json',
      '/docs/errors',
      '/users/me',
      '/nope',
    ]) {
      const get = await exchange(system(), 'GET', path);
      const head = await exchange(system(), 'HEAD', path);
      assert.equal(head.text, '');
      assert.equal(head.status, get.status, path);
      const { date: _getDate, ...expected } = get.headers;
      const { date: _headDate, ...headers } = head.headers;
      assert.deepEqual(headers, expected, path);
    }
  });

  test('JSON, problems and pages carry the security headers and do not say what made them', async () => {
    const apiReplies = [
      await exchange(system(), 'GET', '/health/live'),
      await exchange(system(), 'GET', '/.well-known/jwks.json'),
      await exchange(system(), 'GET', '/openapi.json'),
      await exchange(system(), 'GET', '/users/me'),
      await exchange(system(), 'GET', '/nope'),
      await exchange(system(), 'DELETE', '/auth/login'),
      await exchange(system(), 'POST', '/auth/login'),
      await exchange(system(), 'POST', '/auth/login', { 'content-type': 'application/json' }, '{"email":1}'),
      await exchange(system(), 'POST', '/auth/login', { 'content-type': 'application/json' }, 'x'.repeat(40_000)),
    ];
    for (const { headers } of apiReplies) assert.equal(headers['content-security-policy'], apiPolicy);
    const pages = [await exchange(system(), 'GET', '/docs/errors'), await exchange(system(), 'GET', '/docs')];
    for (const { status, headers } of pages) {
      assert.equal(status, 200);
      assert.match(headers['content-type'] ?? '', /^text\/html; charset=utf-8$/);
      assertStrictPagePolicy(headers['content-security-policy'] ?? '');
    }
    for (const { headers } of [...apiReplies, ...pages]) {
      assert.equal(headers['x-content-type-options'], 'nosniff');
      assert.equal(headers['referrer-policy'], 'no-referrer');
      assert.equal(headers['x-frame-options'], 'DENY');
      for (const name of ['x-powered-by', 'server', 'strict-transport-security'])
        assert.equal(headers[name], undefined);
    }
  });

  test('no reply speaks of other origins where none is configured', async () => {
    const preflight = { origin: 'https://app.example', 'access-control-request-method': 'POST' };
    const replies = [
      await exchange(system(), 'GET', '/health/live', { origin: 'https://app.example' }),
      await exchange(system(), 'GET', '/nope', { origin: 'https://app.example' }),
      await exchange(system(), 'POST', '/auth/login', { origin: 'null' }),
      await exchange(system(), 'OPTIONS', '/auth/login', preflight),
    ];
    assert.deepEqual(
      replies.map(({ status }) => status),
      [200, 404, 415, 405],
    );
    for (const { headers } of replies) assert.deepEqual(corsHeaders(headers), {});
  });
});

describeOnBackends('the border of HTTP under https', { PUBLIC_URL: 'https://latchkey.test' }, (system) => {
  test('browsers are told to stay with https for a year', async () => {
    for (const path of ['/health/live', '/nope', '/docs/errors']) {
      const { headers } = await exchange(system(), 'GET', path);
      assert.equal(headers['strict-transport-security'], 'max-age=31536000');
    }
  });
});

/** A page may load its own files and nothing may run in it that is not one of them. */
function assertStrictPagePolicy(policy: string): void {
  const directives = new Map(policy.split(';').map((part) => part.trim().split(/\s+(.*)/s) as [string, string]));
  const scripts = directives.get('script-src') ?? directives.get('default-src');
  assert.ok(scripts === "'self'" || scripts === "'none'", policy);
  assert.ok(directives.has('default-src') && directives.has('frame-ancestors') && directives.has('base-uri'), policy);
}

function corsHeaders(headers: Reply['headers']): Reply['headers'] {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => name.startsWith('access-control-')));
}

/** Every path of the document and of the pages with the methods that it answers, in alphabetical order. */
function listAnsweredMethods({ app }: System): [path: string, methods: string[]][] {
  const { paths = {} } = app.swagger() as OpenAPIV3_1.Document;
  const documented = Object.entries(paths).map(([template, item]): [string, string[]] => {
    const methods = Object.keys(item ?? {}).map((method) => method.toUpperCase());
    return [template.replace(/\{[^}]+\}/g, '0'), methods.includes('GET') ? [...methods, 'HEAD'] : methods];
  });
  const pages = ['/docs/errors', '/openapi.json'].map((path): [string, string[]] => [path, ['GET', 'HEAD']]);
  return [...documented, ...pages].map(([path, methods]) => [path, methods.sort()]);
}

/** Whatever refused it, a problem document is not stored, not sniffed, and nothing may run in it. */
function assertProblemHeaders({ headers }: Reply): void {
  assert.equal(headers['content-type'], 'application/problem+json');
  assert.equal(headers['content-security-policy'], apiPolicy);
  assert.equal(headers['x-content-type-options'], 'nosniff');
  assert.equal(headers['cache-control'], 'no-store');
}

/** Sends lines that must be refused: one problem document comes back, the connection ends, nothing is stored. */
async function refuse(system: System, lines: readonly string[], code: ErrorCode, body = ''): Promise<void> {
  const before = await takeStock(system);
  const text = await converse(system, `${lines.join('\r\n')}\r\n\r\n${body}`);
  const label = lines.join(' | ').slice(0, 200);
  assert.equal(text.match(/HTTP\/1\.1 \d{3}/g)?.length, 1, `${label}: ${text}`);
  const reply = parseReply(text);
  assert.equal(reply.body?.code, code, `${label}: ${text}`);
  assertProblem(reply, code);
  assertProblemHeaders(reply);
  assert.match(reply.headers.connection ?? '', /^close$/i, label);
  assert.deepEqual(await takeStock(system), before, label);
}
