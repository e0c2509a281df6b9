import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import pg from 'pg';
import { openDatabase } from '../src/db/database.ts';
import { createMaintenance } from '../src/maintenance/flow.ts';
import { explainStartError } from '../src/start-error.ts';
import { openSession, readMe, refresh, registerUser } from './accounts.ts';
import { call } from './client.ts';
import { type PrivateServer, reasonToSkip, startPostgres } from './faults/servers.ts';
import { startSystem } from './system.ts';

// What an operator is told to run is what is run here.
const script = readFileSync(join(import.meta.dirname, '../docs/least-privilege.sql'), 'utf8');
const forbidden =
  'Latchkey could not start. DATABASE_URL: the tables are missing or behind, and this user may not make or change ' +
  'them. Start once with their owner.';

describe('with the two users of docs/least-privilege.sql', { skip: reasonToSkip('postgres') }, () => {
  let server: PrivateServer;

  before(async () => {
    server = await startPostgres();
    // Not a superuser, as on servers that others run.
    await ask('postgres', 'create role administrator login createrole', 'postgres');
    await ask('postgres', 'create database latchkey owner administrator', 'postgres');
    await ask('postgres', 'create role stranger login', 'postgres');
    await ask('administrator', script);
  });

  after(() => server?.remove());

  test('an instance starts when the owner has made the tables, and says what is missing before', async () => {
    assert.equal(await refusalOf(urlOf('latchkey_app')), forbidden);
    assert.deepEqual(await listTables(), []);
    await (await openDatabase(urlOf('latchkey_owner'), () => {})).close();
    assert.ok((await listTables()).includes('users'));
    await (await openDatabase(urlOf('latchkey_app'), () => {})).close();
  });

  test('an instance can do all its work', async () => {
    const system = await startSystem('sqlite+memory', { DATABASE_URL: urlOf('latchkey_app') });
    await using closing = new AsyncDisposableStack();
    closing.defer(system.close);
    const user = await registerUser(system);
    const session = await openSession(system, user);
    const refreshed = await refresh(system, session.refreshToken);
    assert.equal(refreshed.status, 200);
    const token = refreshed.body.access_token;
    assert.equal((await readMe(system, token)).status, 200);
    const change = { method: 'PATCH', path: '/users/me', token, body: { name: 'Ada' } } as const;
    assert.equal((await call(system, change)).status, 200);
    const maintenance = createMaintenance(system.deps);
    await maintenance.runOnce();
    await maintenance.close();
    assert.equal((await call(system, { method: 'DELETE', path: '/users/me', token })).status, 204);
  });

  test('an instance can change no table, not even one of its own, and nobody else gets in', async () => {
    for (const statement of [
      'create table mine (a int)',
      'create temporary table users (a int)',
      'create schema mine',
      'alter table users add column mine text',
      'drop table users',
      'truncate users cascade',
      'create index mine on users (name)',
      'create trigger mine before insert on users execute function suppress_redundant_updates_trigger()',
      'set role latchkey_owner',
      'create role mine',
      'copy users to program $$true$$',
    ]) {
      await assert.rejects(ask('latchkey_app', statement), { code: '42501' }, statement);
    }
    await assert.rejects(ask('stranger', 'select 1'), { code: '42501' });
    // Whoever set it up keeps no way in through the owner.
    await assert.rejects(ask('administrator', 'select * from latchkey.users'), { code: '42501' });
  });

  test('tables of later versions are its own to read and write too, and are missed until the owner was there', async () => {
    await ask('latchkey_owner', 'create table of_tomorrow (a int)');
    const statements = 'insert into of_tomorrow values (1); update of_tomorrow set a = 2; delete from of_tomorrow';
    await ask('latchkey_app', statements);
    const [tables, migrations] = [await listTables(), await listMigrations()];
    const newest = migrations.at(-1);
    await ask('latchkey_owner', `delete from kysely_migration where name = '${newest}'`);
    assert.equal(await refusalOf(urlOf('latchkey_app')), forbidden);
    await ask('latchkey_owner', `insert into kysely_migration values ('${newest}', 'now'), ('9999-later', 'then')`);
    assert.match(await refusalOf(urlOf('latchkey_app')), /the tables were made by a later version .+\(9999-later\)/);
    await ask('latchkey_owner', `delete from kysely_migration where name = '9999-later'`);
    assert.deepEqual([await listTables(), await listMigrations()], [tables, migrations]);
  });

  test('a user without rights to the rows is told which', async () => {
    await ask('postgres', 'grant connect on database latchkey to stranger');
    await ask('latchkey_owner', 'grant usage on schema latchkey to stranger');
    const url = `${urlOf('stranger')}?options=${encodeURIComponent('-c search_path=latchkey')}`;
    assert.match(await refusalOf(url), /DATABASE_URL: the user may not use the tables\. Grant it SELECT, INSERT/);
    assert.match(await refusalOf(urlOf('stranger')), /DATABASE_URL: the tables are missing or behind/);
  });

  test('the limits of the user hold where a pooler passes none on', async () => {
    const { rows } = await ask(
      'latchkey_app',
      `select current_setting('statement_timeout') as statement,
      current_setting('lock_timeout') as lock, current_setting('idle_in_transaction_session_timeout') as idle,
      rolconnlimit as connections from pg_roles where rolname = current_user`,
    );
    assert.deepEqual(rows, [{ statement: '9s', lock: '5s', idle: '9s', connections: 25 }]);
  });

  function urlOf(user: string, database = 'latchkey'): string {
    return Object.assign(new URL(server.url), { username: user, pathname: `/${database}` }).href;
  }

  async function ask(user: string, statements: string, database?: string) {
    const client = new pg.Client({ connectionString: urlOf(user, database) });
    await client.connect();
    try {
      return await client.query(statements);
    } finally {
      await client.end();
    }
  }

  async function listMigrations(): Promise<string[]> {
    const { rows } = await ask('latchkey_app', 'select name from kysely_migration order by name');
    return rows.map(({ name }) => name);
  }

  async function listTables(): Promise<string[]> {
    const { rows } = await ask(
      'postgres',
      `select tablename from pg_tables where schemaname in ('latchkey', 'public')`,
    );
    return rows.map(({ tablename }) => tablename).sort();
  }
});

async function refusalOf(url: string): Promise<string> {
  const opening = openDatabase(url, () => {});
  return opening.then(
    () => assert.fail('it started'),
    (error: unknown) => explainStartError(error, undefined),
  );
}
