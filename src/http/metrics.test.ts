import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { logIn, newEmail, openSession, readMe, refresh, registerUser, sendCode } from '../../test/accounts.ts';
import { assertProblem, call } from '../../test/client.ts';
import { newSecret, problemsOf, production } from '../../test/config.ts';
import { reasonToSkip, startPostgres, startRedis } from '../../test/faults/servers.ts';
import { converse, exchange, host } from '../../test/hostile-socket.ts';
import { parseMetrics, type Sample } from '../../test/metrics.ts';
import { failStart, startProgram } from '../../test/program.ts';
import { inScratch } from '../../test/scratch.ts';
import { describeOnBackends, type System, startSystem } from '../../test/system.ts';
import { until } from '../../test/until.ts';
import { catalogue, type Definition, isClosed } from '../metrics/catalogue.ts';
import { version } from '../version.ts';

const token = newSecret();
const scrapeLimitMs = 2_500;

function scrape(system: System, headers: Record<string, string> = { authorization: `Bearer ${token}` }) {
  return call(system, { method: 'GET', path: '/metrics', headers });
}

describeOnBackends('GET /metrics', { METRICS_TOKEN: token }, (system) => {
  test('answers in the text format to whoever has the token', async () => {
    const reply = await scrape(system());
    assert.equal(reply.status, 200);
    assert.equal(reply.headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
    assert.equal(reply.headers['cache-control'], 'no-store');
    assert.ok(parseMetrics(reply.text).length > 50);
  });

  test('without the token, or with another, is refused and says nothing', async () => {
    assertProblem(await scrape(system(), {}), 'authentication_required');
    assertProblem(await scrape(system(), { authorization: `Basic ${token}` }), 'authentication_required');
    for (const other of [`${token}x`, token.slice(1), newSecret(), 'x', '%']) {
      const reply = await scrape(system(), { authorization: `Bearer ${other}` });
      assertProblem(reply, 'invalid_token');
      assert.doesNotMatch(reply.text, /latchkey_/);
    }
    const user = await registerUser(system());
    assertProblem(await scrape(system(), { authorization: `Bearer ${user.accessToken}` }), 'invalid_token');
  });

  test('has no label that a caller could fill, whatever a hostile caller sends', async () => {
    const mark = 'canary';
    const users = await Promise.all([registerUser(system()), registerUser(system())]);
    await walk(
      system(),
      mark,
      users.map(({ accessToken }) => accessToken),
    );
    const first = parseMetrics((await scrape(system())).text);
    await walk(
      system(),
      `${mark}2`,
      users.map(({ accessToken }) => accessToken),
    );
    const second = parseMetrics((await scrape(system())).text);
    assert.equal(second.length, first.length, 'the same walk with other values makes no new time series');
    assert.ok(second.length < 1_500, `${second.length} time series`);
    const templates = new Set(['unmatched', ...listTemplates(system())]);
    assert.deepEqual(
      second.filter((sample) => !isDeclared(sample, templates)),
      [],
    );
    const text = JSON.stringify(second);
    assert.ok(!text.includes(mark) && !text.includes('@'));
    for (const { id, email } of users) assert.ok(!text.includes(id) && !text.includes(email));
  });
});

// On a system of its own: what was found for another scrape may be a second old.
describeOnBackends('what a scrape looks at', { METRICS_TOKEN: token }, (system, backend) => {
  test('tells the state of every component, the outbox and the hash queue', async () => {
    await system().deps.outbox.enqueue(system().deps.db, {
      to: newEmail(),
      userId: null,
      locale: null,
      message: { kind: 'already_registered' },
      expiresAtMs: system().clock.now() + 3_600_000,
    });
    system().clock.advanceSeconds(90);
    const samples = parseMetrics((await scrape(system())).text);
    const readValue = (name: string, labels: Record<string, string> = {}) =>
      samples.find((sample) => sample.name === name && JSON.stringify(sample.labels) === JSON.stringify(labels))?.value;
    for (const component of ['database', 'ephemeral', 'mail'])
      assert.equal(readValue('latchkey_component_up', { component }), 1, component);
    assert.equal(readValue('latchkey_outbox_messages'), 1);
    assert.equal(readValue('latchkey_outbox_oldest_age_seconds'), 90);
    assert.equal(readValue('latchkey_hash_queue_waiting'), 0);
    assert.equal(readValue('latchkey_hash_queue_capacity'), 100);
    const isPostgres = backend === 'postgres+redis';
    assert.equal(readValue('latchkey_database_pool_capacity'), isPostgres ? 10 : undefined);
    assert.equal(readValue('latchkey_database_pool_waiting'), isPostgres ? 0 : undefined);
    assert.equal((readValue('latchkey_database_pool_connections', { state: 'idle' }) ?? 0) > 0, isPostgres);
    const [database, ephemeral] = isPostgres ? ['postgres', 'redis'] : ['sqlite', 'memory'];
    assert.equal(readValue('latchkey_build_info', { version, database, ephemeral } as never), 1);
    await system().deps.outbox.deliverDue();
  });
});

/** Requests with marks in every place that a caller fills, over inject and over a socket. */
async function walk(system: System, mark: string, tokens: readonly string[]): Promise<void> {
  const email = `${mark}@example.com`;
  await sendCode(system, email, 'login');
  await logIn(system, email, mark);
  await refresh(system, mark);
  for (const accessToken of tokens) await readMe(system, accessToken);
  for (const path of [`/${mark}`, `/users/${mark}`, `/users/me/sessions/${mark}`, `/docs/${mark}`, `/metrics/${mark}`])
    for (const method of ['GET', 'POST', 'DELETE'] as const) await system.app.inject({ method, url: path });
  await system.app.inject({ method: 'GET', url: `/%zz${mark}` });
  for (const method of ['PROPFIND', 'TRACE', 'M-SEARCH', mark.toUpperCase()])
    await converse(system, `${method} /users/me HTTP/1.1\r\n${host}\r\nConnection: close\r\n\r\n`);
  await exchange(system, 'GET', `/users/me?${mark}=1`, { 'user-agent': mark, 'x-request-id': mark });
  await converse(system, `${mark}\r\n\r\n`);
  await converse(system, `GET / HTTP/1.1\r\n${host}\r\nX: ${mark.repeat(10_000)}\r\n\r\n`);
  await converse(system, `GET / HTTP/1.1\r\n${host}\r\nExpect: ${mark}\r\nConnection: close\r\n\r\n`);
}

function listTemplates(system: System): string[] {
  const routes = system.app.printRoutes({ commonPrefix: false, includeHooks: false });
  const templates = [...routes.matchAll(/(\/\S*|\*) \([A-Z, ]+\)/g)].map(([, template = '']) => template);
  return [...templates, ...Object.keys((system.app.swagger() as { paths: object }).paths).map(toTemplate), '*'];
}

function toTemplate(path: string): string {
  return path.replaceAll(/\{(\w+)\}/g, ':$1');
}

function isDeclared({ name, labels }: Sample, templates: ReadonlySet<string>): boolean {
  const definition = Object.values<Definition>(catalogue).find(
    (known) =>
      name === known.name || (known.type === 'histogram' && name.replace(/_(?:bucket|sum|count)$/, '') === known.name),
  );
  if (definition === undefined) return false;
  const given = Object.entries(labels).filter(([label]) => label !== 'le');
  if (given.length !== Object.keys(definition.labels).length) return false;
  return given.every(([label, value]) => {
    const values = definition.labels[label];
    if (values === undefined) return false;
    if (isClosed(values)) return values.includes(value);
    if (label === 'route') return templates.has(value);
    return label === 'status' ? /^(?:[2345]\d\d|aborted)$/.test(value) : label === 'version';
  });
}

describe('without METRICS_TOKEN', () => {
  test('the API has no /metrics, by any method', async () => {
    const system = await startSystem('sqlite+memory');
    try {
      for (const method of ['GET', 'POST', 'HEAD', 'DELETE'] as const) {
        const reply = await call(system, { method, path: '/metrics', headers: { authorization: `Bearer ${token}` } });
        assert.equal(reply.status, 404);
      }
    } finally {
      await system.close();
    }
  });
});

describe('METRICS_PORT', () => {
  const portOf = (output: string) => /Metrics listening at http:\/\/[^"]+:(\d+)/.exec(output)?.[1];

  test('serves the metrics and nothing else, while the API serves none, and both stop in good order', () =>
    inScratch(async (scratch) => {
      const program = await startProgram({ ...scratch, METRICS_PORT: '0', METRICS_HOST: '127.0.0.1' });
      const origin = `http://127.0.0.1:${portOf(program.output())}`;
      const text = await (await fetch(`${origin}/metrics`)).text();
      const names = new Set(parseMetrics(text).map(({ name }) => name));
      for (const name of ['latchkey_component_up', 'process_resident_memory_bytes', 'nodejs_eventloop_lag_p99_seconds'])
        assert.ok(names.has(name), name);
      assert.equal((await fetch(`${origin}/metrics`, { method: 'HEAD' })).status, 200);
      assert.equal((await fetch(`${origin}/metrics`, { method: 'POST' })).status, 405);
      for (const path of ['/', '/health/live', '/users/me', '/docs', '/openapi.json'])
        assert.equal((await fetch(origin + path)).status, 404, path);
      assert.equal((await fetch(`${program.origin}/metrics`)).status, 404);
      const { code, afterMs } = await program.stop('SIGTERM');
      assert.equal(code, 0);
      assert.ok(afterMs < 5_000, `it took ${afterMs} ms`);
      await assert.rejects(fetch(`${origin}/metrics`));
    }));

  test('asks for the token too, where there is one', () =>
    inScratch(async (scratch) => {
      const environment = { METRICS_PORT: '0', METRICS_HOST: '127.0.0.1', METRICS_TOKEN: token };
      const program = await startProgram({ ...scratch, ...environment });
      const headers = { authorization: `Bearer ${token}` };
      for (const origin of [`http://127.0.0.1:${portOf(program.output())}`, program.origin]) {
        assert.equal((await fetch(`${origin}/metrics`)).status, 401);
        assert.equal((await fetch(`${origin}/metrics`, { headers })).status, 200);
      }
      assert.ok(!program.output().includes(token));
      await program.stop('SIGTERM');
    }));

  test('that is taken ends the start', () =>
    inScratch(async (scratch) => {
      const program = await startProgram({ ...scratch, METRICS_PORT: '0', METRICS_HOST: '127.0.0.1' });
      const METRICS_PORT = portOf(program.output()) ?? '';
      const ending = await failStart({ ...scratch, METRICS_PORT, METRICS_HOST: '127.0.0.1' });
      assert.equal(ending.code, 1);
      await program.stop('SIGTERM');
    }));

  test('may not be PORT, and a token in production must not be short', () => {
    assert.deepEqual(problemsOf({ SECRET_KEY: newSecret(), PORT: '9000', METRICS_PORT: '9000' }), [
      'METRICS_PORT must not be PORT',
    ]);
    assert.deepEqual(problemsOf({ SECRET_KEY: newSecret(), PORT: '0', METRICS_PORT: '0' }), []);
    assert.deepEqual(problemsOf({ ...production, METRICS_TOKEN: token.slice(0, 31) }), [
      'METRICS_TOKEN must have at least 32 characters in production',
    ]);
    assert.deepEqual(problemsOf({ ...production, METRICS_TOKEN: token.slice(0, 32) }), []);
  });
});

describe('when everything is away', { skip: reasonToSkip('postgres') || reasonToSkip('redis') }, () => {
  test('a scrape says so in time, however many ask, and takes no more than one connection', async (t) => {
    const [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
    const environment = { DATABASE_URL: postgres.url, REDIS_URL: redis.url, METRICS_TOKEN: token };
    const system = await startSystem('sqlite+memory', environment);
    try {
      await openSession(system, await registerUser(system));
      postgres.freeze();
      redis.freeze();
      for (let round = 0; round < 2; round += 1) {
        const startedAtMs = performance.now();
        const replies = await Promise.all(Array.from({ length: 20 }, () => scrape(system)));
        const tookMs = performance.now() - startedAtMs;
        t.diagnostic(`measured: 20 scrapes while everything hangs: ${Math.round(tookMs)} ms`);
        assert.ok(tookMs < scrapeLimitMs, `it took ${tookMs} ms`);
        for (const { status, text } of replies) {
          assert.equal(status, 200);
          assert.match(text, /^latchkey_component_up\{component="database"\} 0$/m);
          assert.match(text, /^latchkey_component_up\{component="ephemeral"\} 0$/m);
          // A value from before would be taken for the present one.
          assert.doesNotMatch(text, /^latchkey_outbox_/m);
        }
        // What was found is told again for a second.
        await sleep(1_050);
      }
      assert.equal(system.deps.database.poolState()?.used, 1);
      postgres.thaw();
      redis.thaw();
      await until(async () => /^latchkey_component_up\{component="database"\} 1$/m.test((await scrape(system)).text));
      assert.match((await scrape(system)).text, /^latchkey_outbox_messages 0$/m);
    } finally {
      redis.thaw();
      postgres.thaw();
      await system.close();
      await Promise.all([postgres.remove(), redis.remove()]);
    }
  });
});
