import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { sql } from 'kysely';
import { assertProblem, call } from '../../test/client.ts';
import { onEmptyDatabase } from '../../test/database.ts';
import { backends, startSystem } from '../../test/system.ts';
import { type Database, inTransaction, openDatabase } from './database.ts';
import { DatabaseBusyError, isDatabaseUnavailable } from './failures.ts';

const waitingPerConnection = 50;

describe('the pool of connections to PostgreSQL', { skip: !backends.includes('postgres+redis') }, () => {
  test('has as many connections as it is given and no more, whoever waits', () =>
    onPool(2, async (database) => {
      await Promise.all(Array.from({ length: 20 }, () => sql`select pg_sleep(0.005)`.execute(database.db)));
      assert.equal(await countConnections(database), 2);
    }));

  test('does with a single connection, also for the start', () =>
    onPool(1, async (database) => {
      await database.ping();
      assert.equal(await countConnections(database), 1);
    }));

  test('lets fifty wait for each connection and refuses the next at once, and those who wait are served', () =>
    onPool(1, async ({ db }) => {
      await using hold = await holdConnection(db);
      const waiting = Array.from({ length: waitingPerConnection }, () => sql`select 1`.execute(db));
      const startedAtMs = performance.now();
      const error = await catchError(sql`select 1`.execute(db));
      assert.ok(performance.now() - startedAtMs < 1_000, 'it did not wait itself');
      assert.ok(error instanceof DatabaseBusyError);
      assert.equal(isDatabaseUnavailable(error), true);
      hold.release();
      await Promise.all(waiting);
      await sql`select 1`.execute(db);
    }));

  test('answers a request for which no place is left with 503, and serves the next when there is one', async () => {
    const system = await startSystem('postgres+redis', { DATABASE_POOL_MAX: '1' });
    await using closing = new AsyncDisposableStack();
    closing.defer(system.close);
    const body = { email: 'nobody@example.com', password: 'correct horse battery staple' };
    const logIn = () => call(system, { method: 'POST', path: '/auth/login', body });
    await using hold = await holdConnection(system.deps.db);
    const waiting = Array.from({ length: waitingPerConnection }, () => system.deps.database.ping());
    assertProblem(await logIn(), 'temporarily_unavailable');
    hold.release();
    await Promise.all(waiting);
    assertProblem(await logIn(), 'invalid_credentials');
  });

  test('tells the server who it is and after how long to give up, and gives up later itself', () =>
    onPool(1, async ({ db }) => {
      const { rows } = await sql`select current_setting('application_name') as name,
        current_setting('statement_timeout') as statement, current_setting('lock_timeout') as lock,
        current_setting('idle_in_transaction_session_timeout') as idle`.execute(db);
      assert.deepEqual(rows, [{ name: 'latchkey', statement: '9s', lock: '5s', idle: '9s' }]);
    }));

  test('with pgbouncer=true sends no settings, and takes those of the user and its own limit', () =>
    onEmptyDatabase('postgres+redis', async (url) => {
      const database = await openDatabase(`${url}?pgbouncer=true&application_name=other`, ignore);
      const { rows } = await sql`select current_setting('application_name') as name,
        current_setting('statement_timeout') as statement`.execute(database.db);
      assert.deepEqual(rows, [{ name: 'other', statement: '0' }]);
      await database.close();
    }));

  test('gives up a lock after five seconds, and the connection stays', () =>
    onPool(2, async (database) => {
      const { db } = database;
      await using hold = await holdConnection(db, (tx) => sql`lock table roles`.execute(tx));
      const startedAtMs = performance.now();
      const error = await catchError(database.ping());
      const waitedMs = performance.now() - startedAtMs;
      assert.equal((error as { code?: string }).code, '55P03');
      assert.ok(waitedMs > 4_500 && waitedMs < 8_500, `it waited ${waitedMs} ms`);
      hold.release();
      assert.equal(await countConnections(database), 2);
    }));
});

describe('after a failover', { skip: !backends.includes('postgres+redis') }, () => {
  test('one request meets the server that may not write any more, and every next one a new connection', () =>
    onPool(5, async (database) => {
      const { db } = database;
      const before = await demoteConnections(database, 5);
      const error = await catchError(insertRole(db, 'refused'));
      assert.equal((error as { code?: string }).code, '25006');
      assert.equal(isDatabaseUnavailable(error), true);
      await Promise.all(['a', 'b', 'c', 'd', 'e'].map((name) => insertRole(db, name)));
      const after = await listConnections(db);
      assert.deepEqual(
        before.filter((pid) => after.includes(pid)),
        [],
      );
    }));

  test('in a transaction too, which leaves nothing and can be repeated', () =>
    onPool(3, async (database) => {
      const { db } = database;
      await demoteConnections(database, 3);
      const work = () => inTransaction(db, async (tx) => insertRole(tx, 'once'));
      assert.equal(isDatabaseUnavailable(await catchError(work())), true);
      await work();
      const { rows } = await sql`select name from roles where name = 'once'`.execute(db);
      assert.equal(rows.length, 1);
    }));

  test('a server that stays read-only costs a request its own connection, and not the pool each time', () =>
    onPool(3, async (database) => {
      const { db } = database;
      await demoteConnections(database, 3);
      await catchError(insertRole(db, 'refused'));
      const renewed = await demoteConnections(database, 3);
      await catchError(insertRole(db, 'refused'));
      await Promise.all(renewed.map(() => sql`select pg_sleep(0.05)`.execute(db)));
      const kept = (await listConnections(db)).filter((pid) => renewed.includes(pid));
      assert.equal(kept.length, 2);
    }));
});

function onPool(maxConnections: number, check: (database: Database) => Promise<void>): Promise<void> {
  return onEmptyDatabase('postgres+redis', async (url) => {
    const database = await openDatabase(url, ignore, { maxConnections });
    try {
      await check(database);
    } finally {
      await database.close();
    }
  });
}

/** Keeps one connection in a transaction until it is released. */
async function holdConnection(db: Database['db'], begin: (tx: Database['db']) => Promise<unknown> = async () => {}) {
  const [begun, released] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const held = inTransaction(db, async (tx) => {
    await begin(tx);
    begun.resolve();
    await released.promise;
  });
  await Promise.race([begun.promise, held]);
  return {
    release: released.resolve,
    async [Symbol.asyncDispose]() {
      released.resolve();
      await held;
    },
  };
}

/** Makes every connection of the pool one to a server that may not write, and lists them. */
async function demoteConnections({ db }: Database, count: number): Promise<number[]> {
  const all = Promise.withResolvers<void>();
  let demoted = 0;
  const demote = () =>
    db.connection().execute(async (connection) => {
      await sql`set session characteristics as transaction read only`.execute(connection);
      demoted += 1;
      if (demoted === count) all.resolve();
      await all.promise;
    });
  await Promise.all(Array.from({ length: count }, demote));
  return listConnections(db);
}

async function listConnections(db: Database['db']): Promise<number[]> {
  const { rows } = await sql<{ pid: number }>`select pid from pg_stat_activity
    where datname = current_database() and application_name = 'latchkey' order by pid`.execute(db);
  return rows.map(({ pid }) => pid);
}

async function countConnections({ db }: Database): Promise<number> {
  return (await listConnections(db)).length;
}

async function insertRole(db: Database['db'], name: string): Promise<void> {
  await db.insertInto('roles').values({ name, description: '', permissions: '[]', created_at: 1 }).execute();
}

async function catchError(work: Promise<unknown>): Promise<unknown> {
  try {
    await work;
  } catch (error) {
    return error;
  }
  throw new Error('it did not fail');
}

function ignore(): void {}
