import assert from 'node:assert/strict';
import { test } from 'node:test';
import { call } from '../client.ts';
import { startScriptedMailServer } from '../scripted-mail-server.ts';
import { startSystem } from '../system.ts';
import { until } from '../until.ts';
import { reasonToSkip, startPostgres, startRedis } from './servers.ts';

const answerLimitMs = 2_500;
const skip = reasonToSkip('postgres') || reasonToSkip('redis');

test('readiness answers in time and names everything while all that it asks about stands still', {
  skip,
}, async (t) => {
  const [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
  const mail = await startScriptedMailServer({ greeting: { act: 'hang' } });
  const environment = { DATABASE_URL: postgres.url, REDIS_URL: redis.url, SMTP_URL: mail.url };
  const system = await startSystem('sqlite+memory', environment);
  try {
    system.deps.outbox.start();
    await until(() => mail.steps.includes('greeting'));
    postgres.freeze();
    redis.freeze();
    const startedAtMs = performance.now();
    // More than there are connections to the database.
    const replies = await Promise.all(
      Array.from({ length: 20 }, () => call(system, { method: 'GET', path: '/health/ready' })),
    );
    const tookMs = performance.now() - startedAtMs;
    t.diagnostic(`measured: 20 answers of /health/ready while everything hangs: ${Math.round(tookMs)} ms`);
    for (const { status, body } of replies) {
      // The look at the mail server takes ten seconds, and until it ends nothing is known against it.
      const components = { database: 'down', ephemeral: 'down', mail: 'up' };
      assert.deepEqual([status, body], [503, { status: 'unavailable', components }]);
    }
    assert.ok(tookMs < answerLimitMs, `it took ${tookMs} ms`);
  } finally {
    redis.thaw();
    postgres.thaw();
    await system.close();
    mail.stop();
    await Promise.all([postgres.remove(), redis.remove()]);
  }
});
