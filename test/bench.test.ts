import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { judge } from '../bench/budgets.ts';
import { encodeRequest, openConnection } from '../bench/http-connection.ts';
import { startLatchkey } from '../bench/latchkey.ts';
import { expectStatus, measureLoad } from '../bench/load.ts';
import { readOptions } from '../bench/options.ts';
import { summariseProfile } from '../bench/profile.ts';
import { type Results, readResults, titleOf, type WorkResult, works, writeResults } from '../bench/results.ts';
import { measureInRounds } from '../bench/rounds.ts';
import { inChains } from '../bench/subject.ts';
import { makeTables, toMarkdown } from '../bench/table.ts';
import { renderPage } from '../scripts/performance-page.ts';
import { renderPlot } from '../scripts/performance-plot.ts';
import { escapeHtml } from '../src/escape-html.ts';
import { listChildren } from './processes.ts';

const run = promisify(execFile);
const quickly = { BCRYPT_COST: '4', HASH_THREADS: '1' };

describe('the load generator', () => {
  test('counts every reply, over no more connections than it is given', async (t) => {
    const sockets = new Set();
    const { origin, server } = await serve(t, (_request, response) => response.end('{}'));
    server.on('connection', (socket) => sockets.add(socket));
    const next = () => encodeRequest(origin, { method: 'GET', path: '/' });
    const result = await measureLoad({
      origin,
      connections: 3,
      requests: 50,
      next,
      check: (reply) => expectStatus(reply, 200),
    });
    assert.equal(result.count, 50);
    assert.equal(sockets.size, 3);
    const { p50, p95, p99, max } = result.latencyMs;
    assert.ok(0 < p50 && p50 <= p95 && p95 <= p99 && p99 <= max);
  });

  test('fails at the first reply that is not the expected success', async (t) => {
    let answered = 0;
    const { origin } = await serve(t, (_request, response) => {
      answered += 1;
      response.writeHead(answered === 20 ? 503 : 200).end('{"code":"temporarily_unavailable"}');
    });
    const next = () => encodeRequest(origin, { method: 'GET', path: '/' });
    const side = { work: 'me', server: 'latchkey', users: 1, connections: 2, process: undefined } as const;
    const load = { origin, connections: 2, requests: 15, next, check: expectOk };
    await assert.rejects(
      measureInRounds([{ ...side, measure: () => measureLoad(load) }], { warmUps: 0, rounds: 3, durationMs: 1 }),
      /200 was expected, and the reply was 503: \{"code":"temporarily_unavailable"\}/,
    );
    assert.ok(answered < 30, `${answered} were answered`);
  });

  test('fails when a connection is closed instead of a reply', async (t) => {
    const { origin } = await serve(t, (request) => request.socket.destroy());
    const next = () => encodeRequest(origin, { method: 'GET', path: '/' });
    await assert.rejects(measureLoad({ origin, connections: 1, requests: 1, next, check: expectOk }), /closed|ECONN/);
  });

  test('reads replies that come in chunks and in pieces', async (t) => {
    const { origin } = await serve(t, async (_request, response) => {
      response.write('{"a":');
      await new Promise(setImmediate);
      response.end('"\r\n0\r\n\r\n"}');
    });
    const connection = await openConnection(origin);
    for (const _ of [1, 2]) {
      const reply = await connection.send(encodeRequest(origin, { method: 'GET', path: '/' }));
      assert.equal(reply.body.toString(), '{"a":"\r\n0\r\n\r\n"}');
    }
    connection.close();
  });

  test('goes on over a new connection when the service ends one after so many requests', async (t) => {
    const { origin, server } = await serve(t, (_request, response) => response.end('{}'));
    server.prependListener('request', (_request, response) => {
      response.shouldKeepAlive = false;
    });
    const next = () => encodeRequest(origin, { method: 'GET', path: '/' });
    const { count } = await measureLoad({ origin, connections: 2, requests: 7, next, check: expectOk });
    assert.equal(count, 7);
  });

  test('takes the same refresh token again for a failure', async (t) => {
    const { origin } = await serve(t, (_request, response) => response.end('one'));
    const chain = inChains(['none'], {
      encode: () => encodeRequest(origin, { method: 'GET', path: '/' }),
      read: (reply) => reply.body.toString(),
    });
    await assert.rejects(measureLoad({ ...chain.traffic, origin, connections: 1, requests: 2 }), /was not rotated/);
    assert.deepEqual(chain.counts(), [1]);
  });
});

describe('the program under the bench', () => {
  test('rotates at each refresh that is counted, as its database tells', async () => {
    const subject = await startLatchkey({ backend: 'sqlite+memory', users: 100, chains: 4, environment: quickly });
    try {
      const { process, refresh } = subject;
      assert.ok(refresh);
      const { count } = await measureLoad({ ...refresh, origin: process.origin, connections: 4, requests: 40 });
      assert.equal(count, 40);
      await subject.checkRotations();
      // One that was made and is not counted.
      await measureLoad({ ...refresh, origin: process.origin, connections: 1, requests: 1, check: expectOk });
      await assert.rejects(subject.checkRotations(), /refreshes were answered, and the database has \d+/);
    } finally {
      await subject.close();
    }
  });

  test('fails the bench when it refuses a request, and leaves nothing behind', async (t) => {
    const folder = useTemporaryFolder(t);
    const children = listChildren(process.pid);
    const environment = { ...quickly, RATE_LIMITS: 'refresh=5/m/ip' };
    await assert.rejects(
      startLatchkey({ backend: 'sqlite+memory', users: 100, chains: 4, environment }),
      /200 was expected, and the reply was 429/,
    );
    assert.deepEqual(readdirSync(folder), []);
    assert.deepEqual(listChildren(process.pid), children);
  });
});

describe('npm run bench', () => {
  test('tells the same in its table, its JSON, the page and the plot', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'latchkey-bench-'));
    t.after(() => rmSync(folder, { recursive: true }));
    const path = join(folder, 'results.json');
    const flags = ['--quick', '--users', '100', '--connections', '4', '--bcrypt-cost', '4', '--json', path];
    const { stdout } = await run(process.execPath, ['bench/bench.ts', ...flags]);
    const results = readResults(path);

    const measured = ['bare', 'me', 'refresh', 'me_first', 'hash', 'login', 'me_before_storm', 'me_in_storm', 'storm'];
    assert.deepEqual(
      results.works.map(({ work }) => work),
      measured,
    );
    assert.ok(results.works.every(({ count, ratePerSecond }) => count > 0 && ratePerSecond.median > 0));
    assert.equal(results.starts.length, 2);
    // The first four promises, the start and the memory.
    assert.equal(results.budgets.length, 6);
    const page = renderPage(
      '<!-- Generated by "npm run bench:page" from the results of the bench; do not edit to the next mark. -->\n<!-- End of what is generated. -->\n',
      [results],
    );
    for (const table of makeTables(results)) {
      assert.ok(page.includes(toMarkdown(table)), table.title);
      for (const row of table.rows) {
        const cells = row.filter((cell) => cell !== '').map((cell) => cell.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
        assert.match(stdout, new RegExp(`^${cells.join(' +')} *$`, 'm'));
      }
    }
    assertDrawn(results);
    assert.ok(!page.includes(folder), 'the page must not tell where somebody keeps their files');
  });

  test('draws works of peers and of a million users too', () => {
    const names = Object.keys(works) as (keyof typeof works)[];
    const all = names.flatMap((work) =>
      ['latchkey', 'better-auth', 'oidc-provider'].flatMap((server) =>
        [1_000, 1_000_000].map((users) => madeUp({ work, server, users })),
      ),
    );
    assertDrawn({ ...emptyResults, works: all });
  });

  test('keeps in JSON exactly what it found', (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'latchkey-bench-'));
    t.after(() => rmSync(folder, { recursive: true }));
    const results = { ...emptyResults, works: [madeUp({ work: 'bare', server: 'fastify', users: null })] };
    writeResults(join(folder, 'results.json'), results);
    assert.deepEqual(readResults(join(folder, 'results.json')), results);
  });

  test('meets a budget at its bound and not below, and judges none of which a side is missing', () => {
    const bare = madeUp({ work: 'bare', server: 'fastify', users: null, rate: 1_000 });
    const judged = (rate: number) =>
      judge({ works: [bare, madeUp({ work: 'me', server: 'latchkey', users: 1_000, rate })], starts: [] });
    assert.deepEqual(
      [500, 499].map((rate) => judged(rate).map(({ isMet }) => isMet)),
      [[true], [false]],
    );
    assert.deepEqual(judge({ works: [bare], starts: [] }), []);
  });

  test('compares a million users with a thousand of the same, and no peer with anything', () => {
    const sizes = [1_000, 1_000_000].map((users) =>
      madeUp({ work: 'refresh', server: 'latchkey', users, rate: 1e6 / users ** 0.5 }),
    );
    const peer = madeUp({ work: 'me', server: 'better-auth', users: 1_000 });
    const [budget, ...others] = judge({ works: [...sizes, peer], starts: [] });
    assert.deepEqual(others, []);
    assert.equal(budget?.name, 'POST /auth/refresh: 1,000,000 users against 1,000');
    assert.ok(Math.abs((budget?.measured ?? 0) - 1 / 1_000 ** 0.5) < 1e-9);
  });

  test('refuses flags that it does not know', () => {
    for (const args of [['--only', 'nothing'], ['--users', '0'], ['--database', 'mysql'], ['--fast']]) {
      assert.throws(() => readOptions(args), args.join(' '));
    }
  });
});

test('a profile is summed up by function and by whose code it is, without what was idle or long before', () => {
  const frames = [
    ['(idle)', ''],
    ['query', `file://${join(import.meta.dirname, '../src/db/sqlite-dialect.ts')}`],
    ['route', `file://${join(import.meta.dirname, '../node_modules/@fastify/cors/index.js')}`],
    ['(garbage collector)', ''],
  ] as const;
  const nodes = frames.map(([functionName, url], id) => ({ id, callFrame: { functionName, url, lineNumber: 9 } }));
  const samples = [1, 0, 1, 2, 2, 3, 0];
  const timeDeltas = samples.map(() => 1_000);
  const { owners, functions } = summariseProfile({ nodes, samples, timeDeltas, startTime: 0, endTime: 7_000 }, 5);
  assert.deepEqual(owners, [
    { name: '@fastify/cors', share: 0.5 },
    { name: 'src/db', share: 0.25 },
    { name: 'garbage collection', share: 0.25 },
  ]);
  assert.equal(functions[0]?.name, 'route @fastify/cors/index.js:10');
});

async function serve(t: TestContext, answer: RequestListener): Promise<{ origin: string; server: Server }> {
  const server = createServer(answer).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return { origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server };
}

function expectOk(reply: Parameters<typeof expectStatus>[0]): void {
  expectStatus(reply, 200);
}

/** Makes a folder in which nobody else keeps temporary files until the test has ended. */
function useTemporaryFolder(t: TestContext): string {
  const { TMPDIR: before } = process.env;
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-bench-'));
  process.env.TMPDIR = folder;
  t.after(() => {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
    rmSync(folder, { recursive: true });
  });
  return folder;
}

/** Every work and every start has its bar, with its name and its figure. */
function assertDrawn(results: Results): void {
  const plot = renderPlot(results);
  for (const { work, server, users, ratePerSecond } of results.works) {
    const whose = users === null ? '' : `, ${server}, ${users.toLocaleString('en')} users`;
    assert.ok(plot.includes(`>${escapeHtml(titleOf({ work, server }))}${whose}<`), `${work} of ${server}`);
    const { median } = ratePerSecond;
    assert.ok(plot.includes(`>${median < 100 ? median.toFixed(1) : Math.round(median).toLocaleString('en')}<`));
  }
  for (const { readyMs, idleMegabytes } of results.starts) {
    assert.ok(plot.includes(`>${Math.round(readyMs.median)} ms<`));
    assert.ok(plot.includes(`>${Math.round(idleMegabytes.median)} MB<`));
  }
}

const emptyResults: Results = {
  takenAt: '2026-01-01T00:00:00.000Z',
  database: 'sqlite',
  command: 'npm run bench',
  elapsedSeconds: 1,
  machine: {
    processor: 'a',
    processors: 2,
    memoryMebibytes: 1024,
    system: 'b',
    fileSystem: 'c',
    fsyncMs: 1,
    loadAverage: 0,
  },
  versions: { node_js: 'v26' },
  settings: { RATE_LIMITS: 'off', HASH_THREADS: 2 },
  works: [],
  starts: [],
  profiles: [],
  budgets: [],
};

function madeUp({ rate = 12_345, ...side }: Pick<WorkResult, 'work' | 'server' | 'users'> & { rate?: number }) {
  return {
    ...side,
    connections: 32,
    count: 10,
    ratePerSecond: { median: rate, min: rate, max: rate },
    latencyMs: { p50: 1, p95: 2, p99: 3, max: 4 },
    serverCpu: null,
    generatorCpu: { microsecondsPerRequest: 9, processors: 0.5 },
  } satisfies WorkResult;
}
