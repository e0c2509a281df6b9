import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { onEmptyDatabase } from '../../test/database.ts';
import { launchProgram } from '../../test/program.ts';
import { backends, createScratch } from '../../test/system.ts';
import { openDatabase } from './database.ts';
import { mayPass } from './failures.ts';

// Longer than any statement of a request may take, and than the driver waits for an answer.
const longWaitMs = 10_500;
const lock = '3853314791062309107';

describe('migrations on PostgreSQL', { skip: !backends.includes('postgres+redis') }, () => {
  test('that another instance runs are waited for, longer than a statement of a request may take', () =>
    onEmptyDatabase('postgres+redis', async (url) => {
      const other = await connect(url);
      await other.query(`select pg_advisory_lock(${lock})`);
      const told = Promise.withResolvers<void>();
      // As a role has it whose limits are set on the server.
      const options = encodeURIComponent('-c statement_timeout=9000 -c lock_timeout=5000');
      const opening = openDatabase(`${url}?options=${options}`, ignore, { onMigrationWait: told.resolve });
      const startedAtMs = performance.now();
      await told.promise;
      await Promise.race([opening, sleep(longWaitMs)]);
      assert.ok(performance.now() - startedAtMs >= longWaitMs - 100, 'it waited all the time');
      assert.deepEqual(await listTables(other), []);
      await other.query(`select pg_advisory_unlock(${lock})`);
      const database = await opening;
      await database.ping();
      await Promise.all([database.close(), other.end()]);
    }));

  test('that are done already are waited for by nobody', () =>
    onEmptyDatabase('postgres+redis', async (url) => {
      await (await openDatabase(url, ignore)).close();
      const other = await connect(url);
      await other.query(`select pg_advisory_lock(${lock})`);
      const database = await openDatabase(url, ignore, { onMigrationWait: () => assert.fail('it waited') });
      await Promise.all([database.close(), other.end()]);
    }));

  test('that cannot have a table give up before those do who wait behind them, and leave nothing', () =>
    onEmptyDatabase('postgres+redis', async (url) => {
      const other = await connect(url);
      await blockLastTable(other);
      const startedAtMs = performance.now();
      const error = await openDatabase(url, ignore).then(
        () => assert.fail('it did not wait'),
        (thrown: unknown) => thrown,
      );
      const waitedMs = performance.now() - startedAtMs;
      assert.equal((error as { code?: string }).code, '55P03');
      assert.equal(mayPass(error), true, 'the start tries again');
      assert.ok(waitedMs > 3_500 && waitedMs < 8_500, `it waited ${waitedMs} ms`);
      await other.query('rollback');
      assert.deepEqual(await listTables(other), []);
      await other.end();
    }));

  test('in the middle of which the process is killed leave nothing, and the next start does them all', async () => {
    const { environment, remove } = await createScratch('postgres+redis');
    const { DATABASE_URL: url = '' } = environment;
    const [other, blocker] = [await connect(url), await connect(url)];
    await blockLastTable(blocker);
    const program = launchProgram(environment);
    await until(async () => (await countBlocked(other)) > 0);
    assert.equal((await program.stop('SIGKILL')).signal, 'SIGKILL');
    await blocker.end();
    // The server notices that nobody is there any more.
    await until(async () => (await countOthers(other)) === 0);
    assert.deepEqual(await listTables(other), []);
    const { rows } = await other.query(`select 1 from pg_locks where locktype = 'advisory' and granted
      and database = (select oid from pg_database where datname = current_database())`);
    assert.deepEqual(rows, [], 'nobody keeps the next one waiting');
    const database = await openDatabase(url, ignore, { onMigrationWait: () => assert.fail('it waited') });
    await database.ping();
    assert.ok((await listTables(other)).includes('leases'));
    await Promise.all([database.close(), other.end()]);
    await remove();
  });

  test('a table of another program that uses the same library in another schema is left alone', () =>
    onEmptyDatabase('postgres+redis', async (url) => {
      const other = await connect(url);
      await other.query(`create table kysely_migration (name varchar(255), timestamp varchar(255));
        insert into kysely_migration values ('0001-theirs', '2020-01-01T00:00:00.000Z'); create schema latchkey`);
      const options = encodeURIComponent('-c search_path=latchkey,public');
      for (const _start of ['first', 'second']) await (await openDatabase(`${url}?options=${options}`, ignore)).close();
      const { rows } = await other.query('select name from public.kysely_migration');
      assert.deepEqual(rows, [{ name: '0001-theirs' }]);
      assert.ok((await listTables(other, 'latchkey')).includes('users'));
      assert.deepEqual(await listTables(other), ['kysely_migration']);
      await other.end();
    }));
});

/** Makes, in a transaction that stays open, a table that the last migration makes last. */
async function blockLastTable(client: pg.Client): Promise<void> {
  await client.query('begin; create table leases (name text)');
}

async function countBlocked(client: pg.Client): Promise<number> {
  const { rows } = await client.query(`select 1 from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock' and query like 'create table "leases"%'`);
  return rows.length;
}

async function countOthers(client: pg.Client): Promise<number> {
  const { rows } = await client.query(`select 1 from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'`);
  return rows.length;
}

/** Waits for what another process does. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  const giveUpAtMs = performance.now() + 10_000;
  while (!(await condition())) {
    assert.ok(performance.now() < giveUpAtMs, `in vain waited for ${condition}`);
    await sleep(10);
  }
}

async function listTables(client: pg.Client, schema = 'public'): Promise<string[]> {
  const { rows } = await client.query('select tablename from pg_tables where schemaname = $1 order by 1', [schema]);
  return rows.map(({ tablename }) => tablename);
}

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  return client;
}

function ignore(): void {}
