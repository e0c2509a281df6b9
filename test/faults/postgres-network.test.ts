import assert from 'node:assert/strict';
import { after, before, describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { logIn, openSession, readMe, refresh, registerUser, type TestUser } from '../accounts.ts';
import { assertProblem, call, type Reply } from '../client.ts';
import { type System, startSystem } from '../system.ts';
import { type PrivateServer, reasonToSkip, startPostgres } from './servers.ts';
import { startTcpProxy, type TcpProxy } from './tcp-proxy.ts';

// PostgreSQL is well in all of these; what lies between is not.

/** A system of its own behind a network of its own. */
type Distant = { system: System; proxy: TcpProxy; user: TestUser; database: string; close(): Promise<void> };

// A statement may take ten seconds to be given up, a connection five; the rest is for a slow machine.
const longestAnswerMs = 20_000;
const backLimitMs = 20_000;

describe('when the network to PostgreSQL fails', { skip: reasonToSkip('postgres') }, () => {
  let server: PrivateServer;
  let count = 0;

  before(async () => {
    server = await startPostgres();
  });

  after(() => server?.remove());

  test('a connection that is cut in the middle of a transaction leaves nothing of it', async (t) => {
    await using distant = await startDistant();
    const { system, proxy, user } = distant;
    const stock = await takeStock(distant);
    proxy.onNext('insert into "sessions"', 'after', proxy.cut);
    assertProblem(await logIn(system, user.email, user.password), 'temporarily_unavailable');
    assert.deepEqual(await takeStock(distant), stock);
    await measureBack(t, 'a cut', () => logIn(system, user.email, user.password));
    assert.equal((await takeStock(distant)).sessions, stock.sessions + 1);
  });

  test('a network that hangs is answered for with 503, and carries on where it was', async (t) => {
    await using distant = await startDistant();
    const { system, proxy, user } = distant;
    proxy.hang();
    const startedAtMs = performance.now();
    // More than there are connections, so that some meet a hung one and others a new one that hangs as well.
    const replies = await Promise.all(Array.from({ length: 15 }, () => readMe(system, user.accessToken)));
    for (const reply of replies) assertProblem(reply, 'temporarily_unavailable');
    t.diagnostic(`measured: the last 503 from behind a hung network: ${elapsedMs(startedAtMs)} ms`);
    assert.ok(elapsedMs(startedAtMs) < longestAnswerMs);
    assert.equal((await call(system, { method: 'GET', path: '/health/live' })).status, 200);
    assert.equal((await call(system, { method: 'GET', path: '/health/ready' })).status, 503);
    proxy.resume();
    await measureBack(t, 'a hang', () => readMe(system, user.accessToken));
    await assertNobodyHolds(distant);
  });

  test('a network that swallows new connections costs each request five seconds at most', async (t) => {
    await using distant = await startDistant();
    const { system, proxy, user } = distant;
    proxy.cut();
    proxy.hang();
    // The first meet connections that were cut; then there is none left.
    let tookMs = 0;
    while (tookMs < 1_000) {
      const startedAtMs = performance.now();
      assertProblem(await readMe(system, user.accessToken), 'temporarily_unavailable');
      tookMs = elapsedMs(startedAtMs);
    }
    assert.ok(tookMs > 4_000 && tookMs < 9_000, `it took ${tookMs} ms`);
    proxy.cut();
    proxy.resume();
    await measureBack(t, 'a black hole', () => readMe(system, user.accessToken));
  });

  test('a network that refuses connections is answered for at once', async (t) => {
    await using distant = await startDistant();
    const { system, proxy, user } = distant;
    proxy.refuse();
    proxy.cut();
    const startedAtMs = performance.now();
    for (let turn = 0; turn < 5; turn += 1) {
      assertProblem(await readMe(system, user.accessToken), 'temporarily_unavailable');
    }
    assert.ok(elapsedMs(startedAtMs) < 4_000, `it took ${elapsedMs(startedAtMs)} ms`);
    await proxy.accept();
    await measureBack(t, 'a refusal', () => readMe(system, user.accessToken));
  });

  test('a network that is slow is only slow, and one that the server hangs up on is dialled again', async () => {
    await using distant = await startDistant();
    const { system, proxy, user } = distant;
    proxy.delay(100);
    const startedAtMs = performance.now();
    assert.equal((await readMe(system, user.accessToken)).status, 200);
    assert.ok(elapsedMs(startedAtMs) >= 200, 'it was slow');
    proxy.delay(0);
    proxy.halfClose();
    while (proxy.countConnections() > 0) await sleep(5);
    assert.equal((await readMe(system, user.accessToken)).status, 200);
  });

  // Nobody behind a hung network can know whether the COMMIT arrived. Both must be bearable.
  const fates = [
    { name: 'never arrives', when: 'before', heal: (proxy: TcpProxy) => proxy.cut(), isKept: false },
    { name: 'arrives, and its answer does not', when: 'after', heal: (proxy: TcpProxy) => proxy.cut(), isKept: true },
    { name: 'arrives late', when: 'before', heal: () => {}, isKept: false },
  ] as const;
  describe('and a write', { concurrency: true }, () => {
    for (const { name, when, heal, isKept } of fates) {
      test(`whose COMMIT ${name} is there whole or not at all`, async (t) => {
        await using distant = await startDistant();
        const { system, proxy, user } = distant;
        const stock = await takeStock(distant);
        proxy.onNext('commit', when, proxy.hang);
        const startedAtMs = performance.now();
        assertProblem(await logIn(system, user.email, user.password), 'temporarily_unavailable');
        t.diagnostic(`measured: 503 for a COMMIT that ${name}: ${elapsedMs(startedAtMs)} ms`);
        heal(proxy);
        proxy.resume();
        // By the time that the caller is told, the server has let go of every lock.
        await assertNobodyHolds(distant);
        const kept = isKept ? 1 : 0;
        const { sessions, events } = await takeStock(distant);
        assert.deepEqual([sessions, events], [stock.sessions + kept, stock.events + kept]);
        assert.equal((await logIn(system, user.email, user.password)).status, 200);
      });

      test(`that moves a refresh token on and ${name} ends no session: the retry gets the one successor`, async () => {
        await using distant = await startDistant();
        const { system, proxy, user } = distant;
        const { refreshToken } = await openSession(system, user);
        proxy.onNext('update "sessions"', when, proxy.hang);
        assertProblem(await refresh(system, refreshToken), 'temporarily_unavailable');
        heal(proxy);
        proxy.resume();
        const retries = await Promise.all(Array.from({ length: 5 }, () => refresh(system, refreshToken)));
        assert.deepEqual(
          retries.map(({ status }) => status),
          [200, 200, 200, 200, 200],
        );
        const successors = new Set(retries.map(({ body }) => body.refresh_token));
        assert.equal(successors.size, 1);
        const [successor = ''] = successors;
        assert.equal((await refresh(system, successor)).status, 200, 'the session goes on');
      });
    }
  });

  test('load on a network that breaks in every way meets no answer but success and 503', async (t) => {
    await using distant = await startDistant();
    const { system, proxy, user } = distant;
    const replies: Reply[] = [];
    let isStopping = false;
    const sessions = await Promise.all([1, 2, 3].map(() => openSession(system, user)));
    const clients = sessions.map(async ({ accessToken, refreshToken: first }) => {
      let refreshToken = first;
      while (!isStopping) {
        const reply = await refresh(system, refreshToken);
        if (reply.status === 200) refreshToken = reply.body.refresh_token;
        replies.push(reply, await readMe(system, accessToken));
      }
    });
    for (let turn = 0; turn < 12; turn += 1) {
      if (turn % 3 === 0) proxy.hang();
      if (turn % 3 === 1) proxy.halfClose();
      await sleep(50);
      proxy.cut();
      proxy.resume();
      await sleep(50);
    }
    isStopping = true;
    await Promise.all(clients);
    const statuses = new Set(replies.map(({ status }) => status));
    t.diagnostic(`measured: ${replies.length} requests, answered ${[...statuses].sort().join(' and ')}`);
    assert.deepEqual([...statuses].sort(), [200, 503]);
  });

  async function startDistant(): Promise<Distant & AsyncDisposable> {
    count += 1;
    const database = `network_${count}`;
    await ask('postgres', `create database ${database}`);
    const target = new URL(server.url);
    const proxy = await startTcpProxy(Number(target.port));
    Object.assign(target, { port: String(proxy.port), pathname: `/${database}` });
    const system = await startSystem('sqlite+memory', { DATABASE_URL: target.href });
    const user = await registerUser(system);
    const close = async () => {
      proxy.close();
      await system.close();
    };
    return { system, proxy, user, database, close, [Symbol.asyncDispose]: close };
  }

  /** What of a login is in the database, seen past the proxy. */
  async function takeStock({ database }: Distant): Promise<{ sessions: number; events: number }> {
    const [row] = await ask(
      database,
      `select (select count(*) from sessions)::int as sessions, (select count(*) from audit_events)::int as events`,
    );
    return row as { sessions: number; events: number };
  }

  async function assertNobodyHolds({ database }: Distant): Promise<void> {
    const rows = await ask(
      database,
      `select state, query from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
        and state like 'idle in transaction%'`,
    );
    assert.deepEqual(rows, []);
  }

  async function ask(database: string, text: string): Promise<unknown[]> {
    const client = new pg.Client(Object.assign(new URL(server.url), { pathname: `/${database}` }).href);
    await client.connect();
    try {
      return (await client.query(text)).rows;
    } finally {
      await client.end();
    }
  }
});

/** Repeats a request until it succeeds; everything before that must be a 503. */
async function measureBack(t: TestContext, what: string, request: () => Promise<Reply>): Promise<void> {
  const startedAtMs = performance.now();
  for (;;) {
    const reply = await request();
    if (reply.status === 200) break;
    assertProblem(reply, 'temporarily_unavailable');
    assert.ok(elapsedMs(startedAtMs) < backLimitMs, `not back after ${what}`);
  }
  t.diagnostic(`measured: PostgreSQL back after ${what}: ${elapsedMs(startedAtMs)} ms`);
}

function elapsedMs(sinceMs: number): number {
  return Math.round(performance.now() - sinceMs);
}
