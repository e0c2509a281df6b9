import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import type { FastifyInstance, InjectOptions } from 'fastify';
import { generateKeyPair, SignJWT } from 'jose';
import { buildNotesApi } from '../../examples/notes-api.ts';
import { logIn, registerUser, type TestUser } from '../accounts.ts';
import { giveRole, makeRole } from '../administrators.ts';
import { call } from '../client.ts';
import { findFreePort } from '../ports.ts';
import { type System, startSystem } from '../system.ts';
import { buildClient } from './built.ts';

describe('the API of the example', () => {
  let system: System;
  let api: FastifyInstance;
  let issuer: string;
  let user: TestUser;
  let client: Awaited<ReturnType<typeof buildClient>>;

  before(async () => {
    const port = await findFreePort();
    issuer = `http://127.0.0.1:${port}`;
    system = await startSystem('sqlite+memory', { PUBLIC_URL: issuer });
    await system.app.listen({ host: '127.0.0.1', port });
    client = await buildClient();
    api = await buildNotesApi({ issuer, audience: issuer, clientFolder: client.folder });
  });
  after(async () => {
    await api?.close();
    await system?.close();
    client?.remove();
  });
  beforeEach(async () => {
    user = await registerUser(system);
  });

  async function ask(method: InjectOptions['method'] & string, url: string, token?: string, body?: object) {
    const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const reply = await api.inject({ method, url, headers, ...(body === undefined ? {} : { payload: body }) });
    return { status: reply.statusCode, headers: reply.headers, body: reply.body === '' ? undefined : reply.json() };
  }

  test('a note belongs to whoever wrote it, and nobody else reads or removes it', async () => {
    const other = await registerUser(system);
    const written = await ask('POST', '/api/notes', user.accessToken, { text: 'mine' });
    assert.equal(written.status, 201);
    assert.deepEqual((await ask('GET', '/api/notes', other.accessToken)).body, { items: [] });
    assert.equal((await ask('DELETE', `/api/notes/${written.body.id}`, other.accessToken)).status, 404);
    assert.deepEqual((await ask('GET', '/api/notes', user.accessToken)).body, { items: [written.body] });
    assert.equal((await ask('DELETE', `/api/notes/${written.body.id}`, user.accessToken)).status, 204);
    assert.deepEqual((await ask('GET', '/api/notes', user.accessToken)).body, { items: [] });
  });

  test('a request without a token or with one that is not of the service is refused on every route', async () => {
    const routes = [
      ['GET', '/api/notes'] as const,
      ['DELETE', '/api/notes'] as const,
      ['GET', '/api/statistics'] as const,
    ];
    for (const token of [undefined, 'nonsense', await forge(issuer, issuer), user.refreshToken]) {
      for (const [method, url] of routes) {
        const refused = await ask(method, url, token);
        assert.equal(refused.status, 401, `${method} ${url} ${token}`);
        assert.equal(refused.headers['www-authenticate'], 'Bearer error="invalid_token"');
      }
    }
  });

  test('a token for another audience or of another issuer is refused', async () => {
    const clientFolder = client.folder;
    for (const source of [
      { issuer, audience: 'https://elsewhere.example' },
      { issuer: issuer.replace('127.0.0.1', 'localhost'), audience: issuer },
    ]) {
      const elsewhere = await buildNotesApi({ ...source, clientFolder });
      const headers = { authorization: `Bearer ${user.accessToken}` };
      const { statusCode } = await elsewhere.inject({ method: 'GET', url: '/api/notes', headers });
      assert.ok(statusCode === 401 || statusCode === 503, String(statusCode));
      await elsewhere.close();
    }
  });

  test('keys that cannot be had are a 503 and not a verdict on the token', async () => {
    const nobody = `http://127.0.0.1:${await findFreePort()}`;
    const lonely = await buildNotesApi({ issuer: nobody, audience: nobody, clientFolder: client.folder });
    const headers = { authorization: `Bearer ${user.accessToken}` };
    const { statusCode } = await lonely.inject({ method: 'GET', url: '/api/notes', headers });
    assert.equal(statusCode, 503);
    await lonely.close();
  });

  test('the statistics need a permission, which a token has from the next login on', async () => {
    const refused = await ask('GET', '/api/statistics', user.accessToken);
    assert.equal(refused.status, 403);
    assert.equal(refused.body.code, 'insufficient_permission');
    await giveRole(system, user.id, await makeRole(system, ['app:notes:statistics']));
    const { body } = await logIn(system, user.email, user.password);
    await ask('POST', '/api/notes', body.access_token, { text: 'one' });
    const { status, body: statistics } = await ask('GET', '/api/statistics', body.access_token);
    assert.equal(status, 200);
    assert.ok(statistics.items.some((row: { user_id: string }) => row.user_id === user.id));
  });

  test('after a logout the token still reads, and what asks the service is refused and removes nothing', async () => {
    await ask('POST', '/api/notes', user.accessToken, { text: 'kept' });
    await call(system, { method: 'POST', path: '/auth/logout', body: { refresh_token: user.refreshToken } });
    assert.equal((await ask('DELETE', '/api/notes', user.accessToken)).status, 401);
    assert.equal((await ask('GET', '/api/notes', user.accessToken)).body.items.length, 1);
  });

  test('whoever is signed in removes all of their notes', async () => {
    await ask('POST', '/api/notes', user.accessToken, { text: 'gone' });
    assert.equal((await ask('DELETE', '/api/notes', user.accessToken)).status, 204);
    assert.deepEqual((await ask('GET', '/api/notes', user.accessToken)).body, { items: [] });
  });

  test('there is a limit to the notes of a user and to the length of one', async () => {
    assert.equal((await ask('POST', '/api/notes', user.accessToken, { text: 'x'.repeat(501) })).status, 400);
    const written = Array.from({ length: 101 }, () => ask('POST', '/api/notes', user.accessToken, { text: 'x' }));
    const statuses = (await Promise.all(written)).map(({ status }) => status);
    assert.deepEqual([...new Set(statuses)].sort(), [201, 409]);
    assert.equal(statuses.filter((status) => status === 201).length, 100);
  });
});

/** A token that says all the right things and is signed with a key of somebody else. */
async function forge(issuer: string, audience: string): Promise<string> {
  const { privateKey } = await generateKeyPair('ES256');
  return new SignJWT({ sid: 'session', permissions: ['app:notes:statistics'] })
    .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid: 'forged' })
    .setIssuer(issuer)
    .setAudience(audience)
    .setSubject('somebody')
    .setIssuedAt()
    .setExpirationTime('5 minutes')
    .sign(privateKey);
}
