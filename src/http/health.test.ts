import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { sql } from 'kysely';
import { call } from '../../test/client.ts';
import { startMailServer } from '../../test/mail-server.ts';
import { findFreePort } from '../../test/ports.ts';
import { backends, describeOnBackends, type System, startSystem } from '../../test/system.ts';
import { until } from '../../test/until.ts';

const allUp = { database: 'up', ephemeral: 'up', mail: 'up' };

describeOnBackends('health', {}, (system) => {
  const ready = () => call(system(), { method: 'GET', path: '/health/ready' });
  const live = () => call(system(), { method: 'GET', path: '/health/live' });

  test('a system whose components answer is alive and ready', async () => {
    assert.deepEqual((await live()).body, { status: 'ok' });
    const reply = await ready();
    assert.deepEqual([reply.status, reply.body], [200, { status: 'ready', components: allUp }]);
    assert.equal(reply.headers['cache-control'], 'no-store');
  });

  test('readiness goes red when the stop begins, while liveness stays and requests are still answered', async () => {
    system().deps.beginStopping();
    const reply = await ready();
    assert.deepEqual([reply.status, reply.body], [503, { status: 'unavailable', components: allUp }]);
    assert.equal((await live()).status, 200);
    assert.equal((await call(system(), { method: 'GET', path: '/.well-known/jwks.json' })).status, 200);
  });
});

describeOnBackends('health without a database', {}, (system) => {
  test('readiness names the database and is red, while liveness and the public keys stay', async () => {
    await system().deps.database.close();
    const reply = await call(system(), { method: 'GET', path: '/health/ready' });
    const components = { database: 'down', ephemeral: 'up', mail: 'up' };
    assert.deepEqual([reply.status, reply.body], [503, { status: 'unavailable', components }]);
    assert.equal((await call(system(), { method: 'GET', path: '/health/live' })).status, 200);
    assert.equal((await call(system(), { method: 'GET', path: '/.well-known/jwks.json' })).status, 200);
  });
});

describe('health and a PostgreSQL that takes no writes', { skip: !backends.includes('postgres+redis') }, () => {
  test('readiness is red, because nobody could log in', async () => {
    const system = await startSystem('postgres+redis', { DATABASE_POOL_MAX: '1' });
    await sql`set session characteristics as transaction read only`.execute(system.deps.db);
    const { status, body } = await call(system, { method: 'GET', path: '/health/ready' });
    assert.deepEqual([status, body.status, body.components.database], [503, 'unavailable', 'down']);
    await sql`set session characteristics as transaction read write`.execute(system.deps.db);
    assert.equal((await call(system, { method: 'GET', path: '/health/ready' })).status, 200);
    await system.close();
  });
});

describe('health and mail', () => {
  const readiness = (system: System) => call(system, { method: 'GET', path: '/health/ready' });
  const environment = (port: number) => ({ SMTP_URL: `smtp://user:hunter2@127.0.0.1:${port}?tls=off` });

  test('a mail server that is away makes it degraded and no less, until it is back', async () => {
    const port = await findFreePort();
    const system = await startSystem('sqlite+memory', environment(port));
    assert.deepEqual((await readiness(system)).body.components.mail, 'up', 'nothing is known before the first look');
    system.deps.outbox.start();
    await until(async () => (await readiness(system)).body.components.mail === 'down');
    const reply = await readiness(system);
    const components = { database: 'up', ephemeral: 'up', mail: 'down' };
    assert.deepEqual([reply.status, reply.body], [200, { status: 'degraded', components }]);
    const server = await startMailServer({ onAuth: (_auth, _session, done) => done(null, { user: 'user' }) }, port);
    system.clock.advanceSeconds(30);
    await until(async () => (await readiness(system)).body.status === 'ready');
    await system.close();
    await server.stop();
  });

  test('a mail server is not asked by those who ask for readiness', async () => {
    const server = await startMailServer();
    const system = await startSystem('sqlite+memory', { SMTP_URL: server.url });
    system.deps.outbox.start();
    await until(() => server.connected() === 1);
    const replies = await Promise.all(Array.from({ length: 50 }, () => readiness(system)));
    assert.ok(replies.every(({ body }) => body.status === 'ready'));
    assert.equal(server.connected(), 1);
    await system.close();
    await server.stop();
  });
});
