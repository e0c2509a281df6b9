import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Reply, takeStock } from './client.ts';
import { exchange } from './hostile-socket.ts';
import { describeOnBackends } from './system.ts';

const listed = 'https://app.example';
const listedOrigins = [listed, 'http://localhost:5173'];

describeOnBackends('pages of other origins', { CORS_ORIGINS: listedOrigins.join(',') }, (system) => {
  const otherOrigins = [
    'https://evil.example',
    'null',
    '*',
    'http://app.example',
    'https://app.example:8443',
    'https://app.example/',
    'https://app.example.evil.example',
    'https://evil-app.example',
    'https://appXexample',
    'https://app.example,https://evil.example',
    `${listed} https://evil.example`,
    'http://localhost',
  ];
  const requests: [method: string, path: string, status: number, body?: string][] = [
    ['GET', '/health/live', 200],
    ['GET', '/users/me', 401],
    ['GET', '/nope', 404],
    ['DELETE', '/auth/login', 405],
    ['POST', '/auth/login', 400, '{'],
    ['POST', '/auth/login', 413, 'x'.repeat(40_000)],
    ['POST', '/auth/login', 422, '{}'],
    ['POST', '/auth/login', 401, '{"email":"nobody@example.com","password":"wrong password"}'],
  ];

  for (const [method, path, status, body] of requests) {
    test(`a listed origin and no other may read the answer ${status} of ${method} ${path}`, async () => {
      const send = (origin: string | undefined) =>
        exchange(
          system(),
          method,
          path,
          {
            ...(origin === undefined ? {} : { origin }),
            ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          },
          body,
        );
      for (const origin of listedOrigins) {
        const reply = await send(origin);
        assert.equal(reply.status, status);
        assert.equal(reply.headers['access-control-allow-origin'], origin);
        assert.match(reply.headers['access-control-expose-headers'] ?? '', /\bretry-after\b.*\bwww-authenticate\b/);
        assertNeverTooOpen(reply);
      }
      for (const origin of [...otherOrigins, undefined]) {
        const reply = await send(origin);
        assert.equal(reply.status, status);
        assert.equal(reply.headers['access-control-allow-origin'], undefined, String(origin));
        assertNeverTooOpen(reply);
      }
    });
  }

  test('a preflight allows a listed origin the methods and headers of the API, and no other origin anything', async () => {
    for (const [method, path] of [
      ['POST', '/auth/login'],
      ['PATCH', '/users/me'],
      ['DELETE', '/users/me'],
    ] as const) {
      const preflight = (origin: string) =>
        exchange(system(), 'OPTIONS', path, {
          origin,
          'access-control-request-method': method,
          'access-control-request-headers': 'authorization,content-type',
        });
      for (const origin of listedOrigins) {
        const reply = await preflight(origin);
        assert.equal(reply.status, 204);
        assert.equal(reply.text, '');
        assert.equal(reply.headers['access-control-allow-origin'], origin);
        assert.equal(reply.headers['access-control-allow-methods'], 'GET, POST, PUT, PATCH, DELETE');
        assert.equal(reply.headers['access-control-allow-headers'], 'authorization, content-type');
        assert.equal(reply.headers['access-control-max-age'], '600');
        assertNeverTooOpen(reply);
      }
      for (const origin of otherOrigins) {
        const reply = await preflight(origin);
        assert.equal(reply.headers['access-control-allow-origin'], undefined, String(origin));
        assertNeverTooOpen(reply);
      }
    }
  });

  test('an OPTIONS that is no preflight succeeds without a body, and allows no other origin anything', async () => {
    const before = await takeStock(system());
    for (const path of ['/auth/login', '/users/me', '/users/me/sessions/x', '/health/live', '/docs/errors', '/nope']) {
      const send = (headers: Record<string, string>) => exchange(system(), 'OPTIONS', path, headers);
      for (const origin of listedOrigins) {
        const reply = await send({ origin });
        assertEmptySuccess(reply);
        assert.equal(reply.headers['access-control-allow-origin'], origin);
      }
      const method = { 'access-control-request-method': 'POST' };
      for (const headers of [{}, method, { origin: 'null' }, { origin: 'https://evil.example' }]) {
        const reply = await send(headers);
        assertEmptySuccess(reply);
        assert.equal(reply.headers['access-control-allow-origin'], undefined);
      }
    }
    assert.deepEqual(await takeStock(system()), before);
  });
});

function assertEmptySuccess(reply: Reply): void {
  assert.deepEqual([reply.status, reply.text, reply.headers['content-type']], [204, '', undefined]);
  assertNeverTooOpen(reply);
}

/** Whatever is allowed depends on the origin, so caches must know, and is never everybody's or with credentials. */
function assertNeverTooOpen({ headers }: Reply): void {
  assert.match(headers.vary ?? '', /\bOrigin\b/i);
  assert.notEqual(headers['access-control-allow-origin'], '*');
  assert.equal(headers['access-control-allow-credentials'], undefined);
}
