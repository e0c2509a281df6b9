import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { openDatabase } from '../../src/db/database.ts';
import { explainStartError } from '../../src/start-error.ts';
import { logIn, openSession, refresh, registerUser } from '../accounts.ts';
import { findFreePort } from '../ports.ts';
import { startSystem } from '../system.ts';
import { findPostgresUser, type PrivateServer, reasonToSkip, startPostgres } from './servers.ts';

const binary = ['/usr/sbin/pgbouncer', '/usr/bin/pgbouncer'].find((path) => existsSync(path));
// CI requires it, and so never skips.
const isLeftOut = binary === undefined && process.env.REQUIRE_PGBOUNCER === undefined;
const reason = reasonToSkip('postgres') || (isLeftOut && 'pgbouncer is not installed');

describe('behind PgBouncer, which lends a connection for one transaction at a time', { skip: reason }, () => {
  let server: PrivateServer;
  const poolers: ChildProcess[] = [];

  before(async () => {
    server = await startPostgres();
  });

  after(async () => {
    for (const pooler of poolers) {
      const exited = once(pooler, 'exit');
      pooler.kill('SIGKILL');
      await exited;
    }
    await server?.remove();
  });

  test('the start says what to set when the pooler refuses the settings of a connection', async () => {
    const url = await startPooler('refusing');
    const error = await openDatabase(url, () => {}).then(
      () => assert.fail('it started'),
      (thrown: unknown) => thrown,
    );
    assert.equal(
      explainStartError(error, undefined),
      'Latchkey could not start. DATABASE_URL: the pooler refuses settings at the start of a connection. ' +
        'Add pgbouncer=true, and see docs/operations.md.',
    );
  });

  for (const [title, settings, query] of [
    ['pgbouncer=true', '', '?pgbouncer=true'],
    [
      'ignore_startup_parameters',
      'ignore_startup_parameters = statement_timeout, lock_timeout, idle_in_transaction_session_timeout',
      '',
    ],
  ] as const) {
    test(`with ${title} several instances start at once, and no lock is left to a stranger`, async () => {
      const name = title.replace('=', '_');
      const url = (await startPooler(name, settings)) + query;
      const opened = await Promise.all(Array.from({ length: 8 }, () => openDatabase(url, () => {})));
      assert.deepEqual(await ask(name, `select 1 from pg_locks where locktype = 'advisory'`), []);
      const migrations = await ask(name, 'select name from kysely_migration');
      assert.equal(new Set(migrations.map(({ name }) => name)).size, migrations.length);
      await Promise.all(opened.map((database) => database.close()));
    });

    test(`with ${title} sessions are opened, moved on and told apart under load`, async () => {
      const name = `load_${title.replace('=', '_')}`;
      const url = (await startPooler(name, settings)) + query;
      const system = await startSystem('sqlite+memory', { DATABASE_URL: url });
      await using closing = new AsyncDisposableStack();
      closing.defer(system.close);
      const users = await Promise.all([1, 2, 3].map(() => registerUser(system)));
      const rounds = users.map(async (user) => {
        let { refreshToken } = await openSession(system, user);
        for (let turn = 0; turn < 20; turn += 1) {
          const replies = await Promise.all([1, 2, 3].map(() => refresh(system, refreshToken)));
          assert.deepEqual(
            replies.map(({ status }) => status),
            [200, 200, 200],
          );
          assert.equal(new Set(replies.map(({ body }) => body.refresh_token)).size, 1);
          refreshToken = replies[0]?.body.refresh_token;
          assert.equal((await logIn(system, user.email, user.password)).status, 200);
        }
      });
      await Promise.all(rounds);
      assert.deepEqual(await ask(name, `select 1 from pg_stat_activity where state like 'idle in transaction%'`), []);
    });
  }

  /** Starts a PgBouncer before a new database, with fewer connections to it than it takes from clients. */
  async function startPooler(name: string, settings = ''): Promise<string> {
    await ask('postgres', `create database "${name}"`);
    const port = await findFreePort();
    const ini = join(server.folder, `${name}.ini`);
    const user = findPostgresUser();
    writeFileSync(
      ini,
      `[databases]
${name} = host=127.0.0.1 port=${new URL(server.url).port} dbname=${name} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
${settings}
`,
    );
    if (user !== undefined) chownSync(ini, user.uid, user.gid);
    poolers.push(spawn(binary ?? '', [ini], { ...user, stdio: 'ignore' }));
    const url = `postgres://postgres@127.0.0.1:${port}/${name}`;
    const giveUpAtMs = performance.now() + 20_000;
    while (!(await answers(url))) {
      assert.ok(performance.now() < giveUpAtMs, 'PgBouncer did not start');
      await sleep(20);
    }
    return url;
  }

  async function ask(database: string, text: string): Promise<Record<string, unknown>[]> {
    const client = new pg.Client(Object.assign(new URL(server.url), { pathname: `/${database}` }).href);
    await client.connect();
    try {
      return (await client.query(text)).rows;
    } finally {
      await client.end();
    }
  }
});

async function answers(url: string): Promise<boolean> {
  const client = new pg.Client(url);
  client.on('error', () => {});
  try {
    await client.connect();
    await client.end();
    return true;
  } catch {
    return false;
  }
}
