import assert from 'node:assert/strict';
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { openDatabase } from '../../src/db/database.ts';
import {
  type Installation,
  makeInstallation,
  onPostgres,
  readSource,
  readTarget,
  runCopy,
  startCopy,
} from '../copying.ts';
import { failStart, get, startProgram } from '../program.ts';
import { backends, createScratch } from '../system.ts';
import { reasonToSkipLong } from '../thorough.ts';

// Lets an insertion into a table stand still until the test empties the flag.
const standStill = `
  create schema test;
  create table test.flag as select 1;
  create function test.hold() returns trigger language plpgsql as $$
    begin
      while exists (select from test.flag) loop perform pg_sleep(0.01); end loop;
      return new;
    end $$;
  create trigger hold before insert on audit_events for each row execute function test.hold()`;

describe('a copy that is interrupted', { skip: !backends.includes('postgres+redis') }, () => {
  let installation: Installation;
  let sourcePath: string;
  let scratch: Awaited<ReturnType<typeof createScratch>>;
  let targetUrl: string;

  before(async () => {
    installation = await makeInstallation(12);
  });

  after(() => installation?.remove());

  beforeEach(async () => {
    // Each test with a file of its own.
    scratch = await createScratch('postgres+redis');
    targetUrl = scratch.environment.DATABASE_URL ?? '';
    sourcePath = join(scratch.environment.DATA_DIR ?? '', 'latchkey.db');
    copyFileSync(installation.sourcePath, sourcePath);
  });

  afterEach(() => scratch.remove());

  const onTarget = <T>(work: (client: pg.Client) => Promise<T>) => onPostgres(targetUrl, work);

  /** Makes the tables as a start does, and then changes how they work. */
  async function makeTables(...statements: string[]): Promise<void> {
    await (await openDatabase(targetUrl, () => {})).close();
    await onTarget((client) => client.query(statements.join(';')));
  }

  /** Starts a copy that has inserted users and sessions and stands still at the events; returns its connection. */
  async function startHalf() {
    await makeTables(standStill);
    const command = startCopy({ sourcePath, targetUrl });
    const pid = await onTarget((client) =>
      until(async () => {
        const query = "select pid from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'";
        return (await client.query<{ pid: number }>(query)).rows[0]?.pid;
      }),
    );
    return { command, pid };
  }

  const release = () => onTarget((client) => client.query('delete from test.flag'));

  async function assertCopies(): Promise<void> {
    const { code, stderr } = await runCopy({ sourcePath, targetUrl });
    assert.equal(code, 0, stderr);
    assert.deepEqual(await readTarget(targetUrl), { ...readSource(sourcePath), leases: [] });
  }

  test('by SIGKILL leaves the target as it was, and can be run again', async () => {
    const { command } = await startHalf();
    const [source, target] = [readSource(installation.sourcePath), await readTarget(targetUrl)];
    command.kill('SIGKILL');
    assert.equal((await command.ended).signal, 'SIGKILL');
    await release();
    assert.deepEqual(await readTarget(targetUrl), target);
    await assertCopies();
    assert.deepEqual(readSource(sourcePath), source);
  });

  test('by a connection that is cut says so, leaves the target as it was, and can be run again', async () => {
    const { command, pid } = await startHalf();
    const target = await readTarget(targetUrl);
    await onTarget((client) => client.query('select pg_terminate_backend($1)', [pid]));
    const { code, stdout, stderr } = await command.ended;
    assert.deepEqual([code, stdout], [1, '']);
    assert.equal(
      stderr,
      'Nothing was copied. The target: terminating connection due to administrator command (57P01).\n',
    );
    await release();
    assert.deepEqual(await readTarget(targetUrl), target);
    await assertCopies();
  });

  test('at the commit says that nobody knows, and another run does', async () => {
    // A trigger at the very end of the transaction, and only of one that will be committed.
    await makeTables(`
      create schema test;
      create function test.cut() returns trigger language plpgsql as $$
        begin perform pg_terminate_backend(pg_backend_pid()); return null; end $$;
      create constraint trigger cut after insert on users deferrable initially deferred
        for each row execute function test.cut()`);
    const { code, stderr } = await runCopy({ sourcePath, targetUrl });
    assert.equal(code, 1);
    assert.match(stderr, /^All rows were copied and compared, but .+ whether the target has kept them is not known\. /);
    assert.match(stderr, /Run the command again/);
    await onTarget((client) => client.query('drop trigger cut on users'));
    await assertCopies();
  });

  test('by a row that PostgreSQL does not take names it, and leaves no table behind', async () => {
    const [id, other] = installation.users.map((user) => user.id);
    change(`update users set name = 'a' || char(0) || 'b' where id = '${id}'`);
    const source = readSource(sourcePath);
    const nul = await runCopy({ sourcePath, targetUrl });
    assert.equal(nul.code, 1);
    const reason = 'invalid byte sequence for encoding "UTF8": 0x00 (22021)';
    const advice = 'Mend or remove it in the source and run the command again.';
    const row = `the row of users with id "${id}"`;
    assert.equal(nul.stderr, `Nothing was copied. PostgreSQL does not take ${row}: ${reason}. ${advice}\n`);
    assert.deepEqual([await readTarget(targetUrl), readSource(sourcePath)], [{}, source]);

    // What only a hand with the foreign keys off can do.
    change(`update users set name = null where id = '${id}'; delete from users where id = '${other}'`);
    const orphan = await runCopy({ sourcePath, targetUrl });
    assert.equal(orphan.code, 1);
    assert.match(
      orphan.stderr,
      new RegExp(
        `does not take the row of user_roles with user_id "${other}" and role_name "user": .+ \\(23503\\)\\. `,
      ),
    );
    assert.doesNotMatch(orphan.stderr, /example\.com|lk1:/);
    assert.deepEqual(await readTarget(targetUrl), {});
  });

  for (const [what, body] of [
    ['changes', "if new.email like 'user-7@%' then new.name = 'x'; end if; return new;"],
    ['swallows', "if new.email like 'user-7@%' then return null; end if; return new;"],
  ]) {
    test(`by a trigger that ${what} a row is found out by the comparison`, async () => {
      await makeTables(`create schema test;
        create function test.change() returns trigger language plpgsql as $$ begin ${body} end $$;
        create trigger change before insert on users for each row execute function test.change();
        alter table user_roles drop constraint user_roles_user_id_fkey;
        alter table sessions drop constraint sessions_user_id_fkey;
        alter table known_devices drop constraint known_devices_user_id_fkey`);
      const target = await readTarget(targetUrl);
      const { code, stdout, stderr } = await runCopy({ sourcePath, targetUrl });
      assert.deepEqual([code, stdout], [1, '']);
      const { id } = installation.users[7] ?? {};
      assert.match(
        stderr,
        new RegExp(`does not give back what was sent: the row of users with id "${id}" is missing, `),
      );
      assert.deepEqual(await readTarget(targetUrl), target);
    });
  }

  test('by a trigger that adds a row is found out too', async () => {
    await makeTables(`create schema test;
      create function test.add() returns trigger language plpgsql as $$ begin
        insert into pending_erasures values ('zzz', 1); return null; end $$;
      create trigger add after insert on known_devices for each statement execute function test.add()`);
    const { code, stderr } = await runCopy({ sourcePath, targetUrl });
    assert.equal(code, 1);
    assert.match(stderr, /the row of pending_erasures with user_id "zzz" is missing, added or different there\./);
    assert.equal((await readTarget(targetUrl))['users']?.length, 0);
  });

  function change(statements: string): void {
    const database = new DatabaseSync(sourcePath, { enableForeignKeyConstraints: false });
    database.exec(statements);
    database.close();
  }

  describe('or meets another process', { skip: reasonToSkipLong }, () => {
    test('of two to one target one wins, and the other says that the target is in use', async () => {
      const { command } = await startHalf();
      const otherPath = join(scratch.environment.DATA_DIR ?? '', 'other.db');
      copyFileSync(installation.sourcePath, otherPath);
      const other = await runCopy({ sourcePath: otherPath, targetUrl });
      assert.equal(other.code, 1);
      assert.match(other.stderr, /^Nothing was copied\. The target is in use: another copy to it is under way, /);
      await release();
      const winner = await command.ended;
      assert.equal(winner.code, 0);
      assert.match(winner.stderr, /^audit_events: 13 of 13 rows copied$/m, 'what takes seconds says how far it is');
      assert.deepEqual(await readTarget(targetUrl), { ...readSource(sourcePath), leases: [] });
    });

    test('to a target without tables, on which a service is just starting, it waits and then says so', async () => {
      await onTarget(async (client) => {
        // What the migrator of every start takes first.
        await client.query('select pg_advisory_lock(3853314791062309107)');
        const { code, stderr } = await runCopy({ sourcePath, targetUrl });
        assert.equal(code, 1);
        assert.match(stderr, /^Nothing was copied\. The target is in use: .+ or Latchkey runs on it\. /);
      });
      await assertCopies();
    });

    test('to a target that somebody is writing to, it waits and then says so', async () => {
      await makeTables();
      await onTarget(async (client) => {
        await client.query("begin; insert into pending_erasures values ('somebody', 1)");
        const { code, stderr } = await runCopy({ sourcePath, targetUrl });
        assert.equal(code, 1);
        assert.match(stderr, /^Nothing was copied\. The target is in use: /);
        await client.query('rollback');
      });
      await assertCopies();
    });

    test('while it runs, neither another copy nor the service can use the source', async () => {
      const { command } = await startHalf();
      const environment = { DATA_DIR: installation.folder, SECRET_KEY: installation.secret };
      const [copy, start] = await Promise.all([
        runCopy({ sourcePath, targetUrl: 'postgres://127.0.0.1:1/x' }),
        failStart({ ...environment, DATABASE_URL: `sqlite:${sourcePath}` }),
      ]);
      assert.deepEqual([copy.code, start.code], [1, 1]);
      assert.match(copy.stderr, /^Nothing was copied\. Another process has .+latchkey\.db open: /);
      assert.match(start.output, /DATABASE_URL: another process keeps the SQLite file locked\./);
      await release();
      assert.equal((await command.ended).code, 0);
      assert.deepEqual(readSource(sourcePath), readSource(installation.sourcePath));
    });

    test('while it runs, a service that starts on the target says so and changes nothing; after it, it finds everything', async (t) => {
      const { command } = await startHalf();
      const { folder, secret, accessToken } = installation;
      const environment = { DATA_DIR: folder, SECRET_KEY: secret, DATABASE_URL: targetUrl };
      const { code, output } = await failStart(environment);
      assert.equal(code, 1);
      assert.match(output, /DATABASE_URL: another session keeps the tables locked\. End it\.\n$/);
      await release();
      assert.equal((await command.ended).code, 0);
      const program = await startProgram({ ...environment, PUBLIC_URL: 'http://latchkey.test' });
      t.after(() => program.stop('SIGKILL'));
      assert.equal((await get(program, '/users/me', accessToken)).status, 200);
      assert.equal((await program.stop('SIGTERM')).code, 0);
      assert.deepEqual((await readTarget(targetUrl))['signing_keys'], readSource(sourcePath)['signing_keys']);
    });

    test('a service that still runs on the source is in the way, and works on', async (t) => {
      const environment = {
        DATA_DIR: scratch.environment.DATA_DIR ?? '',
        SECRET_KEY: installation.secret,
        PUBLIC_URL: 'http://latchkey.test',
      };
      const program = await startProgram(environment);
      t.after(() => program.stop('SIGKILL'));
      const { code, stderr } = await runCopy({ sourcePath, targetUrl });
      assert.equal(code, 1);
      assert.match(stderr, /^Nothing was copied\. Another process has .+latchkey\.db open: Latchkey itself, /);
      assert.equal((await get(program, '/users/me', installation.accessToken)).status, 200);
      assert.equal((await program.stop('SIGTERM')).code, 0);
      assert.deepEqual(await readTarget(targetUrl), {});
      await assertCopies();
    });
  });
});

/** Waits for what another process does, which no clock of ours can bring about. */
async function until<T>(look: () => Promise<T | undefined>): Promise<T> {
  const giveUpAtMs = performance.now() + 30_000;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    assert.ok(performance.now() < giveUpAtMs, 'it did not happen');
    await sleep(10);
  }
}
