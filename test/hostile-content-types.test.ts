import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openSession, readMe, registerUser } from './accounts.ts';
import { assertProblem, assertRefused, call } from './client.ts';
import { listOperations, type Refusal, refuseAll, withMember } from './hostile-operations.ts';
import { converse, exchange, host, parseReply } from './hostile-socket.ts';
import { describeOnBackends } from './system.ts';

const json = { 'content-type': 'application/json' };
const unsupported: Refusal = { code: 'unsupported_media_type' };
const logout = { method: 'POST', path: '/auth/logout' } as const;

describeOnBackends('what a body says that it is', {}, (system) => {
  test('a body of any other content type, or of none, is refused', async () => {
    const others = ['text/plain', 'text/json', 'application/x-www-form-urlencoded', 'application/xml', '*/*', ''];
    const multipart = 'multipart/form-data; boundary=x';
    const nearly = ['application/json-patch+json', 'application/problem+json', 'application/jsonp', 'json'];
    const broken = ['application/json, text/plain', 'application/ json', 'application/json/x', 'x'.repeat(4_000)];
    await refuseAll(system(), ({ sample }) =>
      [...others, multipart, ...nearly, ...broken, undefined].map((contentType) => ({
        raw: JSON.stringify(sample),
        headers: contentType === undefined ? {} : { 'content-type': contentType },
        refusal: unsupported,
      })),
    );
  });

  test('a body in another charset than UTF-8 is refused, whatever its bytes are', async () => {
    const charsets = ['utf-16', 'UTF-16LE', 'utf-32', 'utf-7', 'iso-8859-1', 'latin1', 'us-ascii', 'windows-1252', 'x'];
    const parameters = [
      ...charsets.map((charset) => `; charset=${charset}`),
      ';charset="iso-8859-1"',
      '; CHARSET=latin1',
      '; version=1; charset=utf-16',
      '; charset=utf-8,utf-16',
      '; charset=utf-8x',
    ];
    await refuseAll(system(), ({ sample }) =>
      parameters.map((parameter) => ({
        raw: JSON.stringify(sample),
        headers: { 'content-type': `application/json${parameter}` },
        refusal: unsupported,
      })),
    );
  });

  test('a body in any content encoding but identity is refused, also one that is not encoded at all', async () => {
    const encodings = ['gzip', 'x-gzip', 'GZIP', 'deflate', 'br', 'zstd', 'compress', 'gzip, identity', 'identity, br'];
    await refuseAll(system(), ({ sample }) =>
      [...encodings, 'gzip, gzip', 'unknown', '*'].map((encoding) => ({
        raw: JSON.stringify(sample),
        headers: { ...json, 'content-encoding': encoding },
        refusal: unsupported,
      })),
    );
  });

  test('the content type is read without regard to case, and UTF-8 and identity may be said', async () => {
    const understood = [
      { 'content-type': 'APPLICATION/JSON' },
      { 'content-type': 'application/json; charset=utf-8' },
      { 'content-type': 'application/json;charset=UTF-8' },
      { 'content-type': 'application/json; charset="utf-8"' },
      { 'content-type': 'application/json; profile=x' },
      { ...json, 'content-encoding': 'identity' },
      { ...json, 'content-encoding': 'Identity' },
    ];
    const errors = [{ path: '/unknown', message: 'is not a known field' }];
    await refuseAll(system(), ({ extensible }) =>
      understood.map((headers) => ({
        raw: withMember(extensible, '"unknown":1'),
        headers,
        refusal: { code: 'validation_failed', errors },
      })),
    );
  });
});

describeOnBackends('a body that is empty or null', {}, (system) => {
  test('where a body is required, none at all lacks its content type and an empty one is no JSON', async () => {
    await refuseAll(system(), ({ bodyRequired }) =>
      bodyRequired
        ? [
            { headers: {}, refusal: unsupported },
            { headers: json, refusal: { code: 'malformed_json' } },
            { raw: '', headers: json, refusal: { code: 'malformed_json' } },
            { raw: '', headers: { ...json, 'content-length': '0' }, refusal: { code: 'malformed_json' } },
          ]
        : [],
    );
  });

  test('only logout may do without a body', async () => {
    const optional = (await listOperations(system())).filter(({ bodyRequired }) => !bodyRequired);
    assert.deepEqual(
      optional.map(({ label }) => label),
      ['POST /auth/logout'],
    );
  });

  test('an empty body counts as absent at logout: the bearer token says which session ends', async () => {
    const user = await registerUser(system());
    for (const body of [{ headers: json }, { headers: json, rawBody: '' }, { rawBody: '' }, {}]) {
      const { accessToken: token } = await openSession(system(), user);
      const reply = await call(system(), { ...logout, ...body, token });
      assert.deepEqual([reply.status, reply.text], [204, '']);
      assertProblem(await readMe(system(), token), 'invalid_token');
    }
    assert.equal((await readMe(system(), user.accessToken)).status, 200);
  });

  test('an empty body at logout is the same to a client that sends it in chunks', async () => {
    const user = await registerUser(system());
    const request = (authorization: string) =>
      `POST /auth/logout HTTP/1.1\r\n${host}\r\n${authorization}Connection: close\r\n` +
      'Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n';
    assertProblem(parseReply(await converse(system(), request(''))), 'authentication_required');
    assert.equal((await readMe(system(), user.accessToken)).status, 200);
    const reply = parseReply(await converse(system(), request(`Authorization: Bearer ${user.accessToken}\r\n`)));
    assert.deepEqual([reply.status, reply.text], [204, '']);
    assertProblem(await readMe(system(), user.accessToken), 'invalid_token');
  });

  test('an empty body at logout without a bearer token is told to authenticate', async () => {
    for (const body of [{ headers: json }, { headers: json, rawBody: '' }, {}]) {
      const reply = await assertRefused(system(), { ...logout, ...body }, 'authentication_required');
      assert.equal(reply.headers['www-authenticate'], 'Bearer realm="latchkey"');
    }
  });

  test('null is no absent body: at logout with a bearer token it is refused and the session lives on', async () => {
    const { accessToken: token, refreshToken } = await registerUser(system());
    const errors = [{ path: '', message: 'must be object' }];
    for (const rawBody of ['null', ' null ', '\r\n\tnull']) {
      await assertRefused(system(), { ...logout, rawBody, headers: json, token }, 'validation_failed', { errors });
      await assertRefused(system(), { ...logout, rawBody, headers: json }, 'validation_failed', { errors });
    }
    const authorization = `Bearer ${token}`;
    const overSocket = await exchange(system(), 'POST', '/auth/logout', { ...json, authorization }, 'null');
    assertProblem(overSocket, 'validation_failed', { errors });
    assert.equal((await readMe(system(), token)).status, 200);
    const refreshed = await call(system(), {
      method: 'POST',
      path: '/auth/refresh',
      body: { refresh_token: refreshToken },
    });
    assert.equal(refreshed.status, 200);
  });
});
