import assert from 'node:assert/strict';
import { test } from 'node:test';
import { call } from '../../test/client.ts';
import { describeOnBackends } from '../../test/system.ts';

const allUp = { database: 'up', ephemeral: 'up' };

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
    const components = { database: 'down', ephemeral: 'up' };
    assert.deepEqual([reply.status, reply.body], [503, { status: 'unavailable', components }]);
    assert.equal((await call(system(), { method: 'GET', path: '/health/live' })).status, 200);
    assert.equal((await call(system(), { method: 'GET', path: '/.well-known/jwks.json' })).status, 200);
  });
});
