import assert from 'node:assert/strict';
import { once } from 'node:events';
import { DatabaseSync } from 'node:sqlite';
import { describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { sql } from 'kysely';
import { newMail, newSession, newUser, onDatabase, onEmptyDatabase } from '../../test/database.ts';
import { backends } from '../../test/system.ts';
import * as account from '../account/store.ts';
import { newId } from '../crypto/ids.ts';
import { type Database, inTransaction, openDatabase } from './database.ts';
import { isDatabaseUnavailable, isUniqueViolation } from './failures.ts';
import { UnknownMigrationError } from './migrate.ts';

const closedPortUrl = 'postgres://postgres@127.0.0.1:1/postgres';

for (const backend of backends) {
  describe(`the database (${backend})`, () => {
    test('migrations run once, and opening again changes nothing', () =>
      onEmptyDatabase(backend, async (url) => {
        const first = await openDatabase(url, ignore);
        await first.db.updateTable('roles').set({ description: 'edited' }).where('name', '=', 'user').execute();
        const before = await describeSchema(first);
        await first.close();
        const second = await openDatabase(url, ignore);
        assert.deepEqual(await describeSchema(second), before);
        assert.ok(before.tables.length >= 8, 'there is a schema to compare');
        await second.close();
      }));

    test('tables of a later version are refused and left as they are', () =>
      onEmptyDatabase(backend, async (url) => {
        const first = await openDatabase(url, ignore);
        await sql`insert into kysely_migration (name, timestamp) values ('9999-later', 'then')`.execute(first.db);
        const before = await describeSchema(first);
        const error = await catchError(openDatabase(url, ignore));
        assert.ok(error instanceof UnknownMigrationError);
        assert.match(error.message, /9999-later/);
        assert.deepEqual(await describeSchema(first), before);
        await first.close();
      }));

    test('deleting a user removes their sessions, roles and waiting mail, and nobody else’s', () =>
      onDatabase(backend, async ({ db }) => {
        const [gone, kept] = [newUser(), newUser()];
        for (const { id } of [gone, kept]) {
          await db
            .insertInto('users')
            .values({ ...(id === gone.id ? gone : kept) })
            .execute();
          await db.insertInto('user_roles').values({ user_id: id, role_name: 'user' }).execute();
          await db.insertInto('sessions').values(newSession(id)).execute();
          await db.insertInto('outbox').values(newMail(id)).execute();
        }
        await account.deleteUser(db, gone.id);
        for (const table of ['sessions', 'user_roles', 'outbox'] as const) {
          const rows = await db.selectFrom(table).select('user_id').execute();
          assert.deepEqual(
            rows.map((row) => row.user_id),
            [kept.id],
            table,
          );
        }
      }));

    test('a row that refers to no user is refused', () =>
      onDatabase(backend, async ({ db }) => {
        await assert.rejects(db.insertInto('sessions').values(newSession(newId())).execute());
        await assert.rejects(db.insertInto('outbox').values(newMail(newId())).execute());
        await assert.rejects(db.insertInto('user_roles').values({ user_id: newId(), role_name: 'user' }).execute());
      }));

    test('an address belongs to one user, and the loser of the race is told apart', () =>
      onDatabase(backend, async ({ db }) => {
        const user = newUser();
        await db.insertInto('users').values(user).execute();
        const sameEmail = await catchError(
          db
            .insertInto('users')
            .values({ ...newUser(), email: user.email })
            .execute(),
        );
        const sameId = await catchError(
          db
            .insertInto('users')
            .values({ ...newUser(), id: user.id })
            .execute(),
        );
        assert.equal(isUniqueViolation(sameEmail), true);
        assert.equal(isUniqueViolation(sameId), true);
        assert.equal(isDatabaseUnavailable(sameEmail), false);
      }));

    test('a status outside the three is refused, and that is no unique violation', () =>
      onDatabase(backend, async ({ db }) => {
        const error = await catchError(
          db
            .insertInto('users')
            .values({ ...newUser(), status: 'root' as never })
            .execute(),
        );
        assert.ok(error instanceof Error);
        assert.equal(isUniqueViolation(error), false);
        assert.equal(isDatabaseUnavailable(error), false);
      }));

    test('a transaction that throws leaves nothing, and the next one works', () =>
      onDatabase(backend, async ({ db }) => {
        const failure = new Error('changed my mind');
        const work = inTransaction(db, async (tx) => {
          await tx.insertInto('users').values(newUser()).execute();
          throw failure;
        });
        assert.equal(await catchError(work), failure);
        assert.deepEqual(await db.selectFrom('users').select('id').execute(), []);
        await inTransaction(db, (tx) => tx.insertInto('users').values(newUser()).execute());
        assert.equal((await db.selectFrom('users').select('id').execute()).length, 1);
      }));

    test('times, counts and sums come back as the numbers that were written', () =>
      onDatabase(backend, async ({ db }) => {
        const user = {
          ...newUser(),
          created_at: Number.MAX_SAFE_INTEGER,
          last_login_at: null,
          proofs_valid_from: Number.MAX_SAFE_INTEGER,
        };
        await db.insertInto('users').values(user).execute();
        assert.deepEqual((await account.findUserWithRoles(db, user.id))?.user, user);
        const { rows } = await sql<{ count: unknown }>`select count(*) as count from users`.execute(db);
        assert.equal(rows[0]?.count, 1);
      }));

    test('a syntax error is not taken for an absent database', () =>
      onDatabase(backend, async ({ db }) => {
        assert.equal(isDatabaseUnavailable(await catchError(sql`select from where`.execute(db))), false);
        assert.equal(isDatabaseUnavailable(await catchError(sql`select * from no_such_table`.execute(db))), false);
      }));
  });
}

describe('the database on SQLite', () => {
  test('every table is STRICT', () =>
    onDatabase('sqlite+memory', async ({ db }) => {
      const { rows } = await sql<{ name: string; strict: number }>`select name, strict from pragma_table_list
        where schema = 'main' and type = 'table' and name not like 'sqlite_%' and name not like 'kysely_%'`.execute(db);
      assert.ok(rows.length >= 8);
      assert.deepEqual(
        rows.filter(({ strict }) => strict !== 1),
        [],
      );
      const text = db.insertInto('users').values({ ...newUser(), created_at: 'yesterday' as never });
      await assert.rejects(text.execute(), /cannot store TEXT value in INTEGER column/);
    }));

  test('it writes ahead, waits for the disk at every commit and enforces foreign keys', () =>
    onDatabase('sqlite+memory', async ({ db }) => {
      const read = async (name: string) => {
        const { rows } = await sql.raw<Record<string, unknown>>(`pragma ${name}`).execute(db);
        return Object.values(rows[0] ?? {})[0];
      };
      assert.equal(await read('journal_mode'), 'wal');
      assert.equal(await read('synchronous'), 2);
      assert.equal(await read('foreign_keys'), 1);
      // SQLite's own wait would stop the event loop; the driver waits instead.
      assert.equal(await read('busy_timeout'), 0);
    }));

  test('a write waits for another writer to finish', () =>
    onDatabase('sqlite+memory', async ({ db }, url) => {
      const { released } = await lockElsewhere(url.replace('sqlite:', ''), 500);
      const startedAtMs = performance.now();
      await inTransaction(db, (tx) => tx.insertInto('users').values(newUser()).execute());
      const waitedMs = performance.now() - startedAtMs;
      assert.ok(waitedMs > 200, `the other writer was in the way; waited ${waitedMs} ms`);
      await released;
    }));

  test('reading does not wait for a writer', () =>
    onDatabase('sqlite+memory', async ({ db }, url) => {
      const { released } = await lockElsewhere(url.replace('sqlite:', ''), 500);
      const startedAtMs = performance.now();
      await db.selectFrom('users').selectAll().execute();
      assert.ok(performance.now() - startedAtMs < 200);
      await released;
    }));

  test('a lock that outlasts the wait means that the database is unavailable', () =>
    onDatabase('sqlite+memory', async ({ db }, url) => {
      await inTransaction(db, async () => {
        const impatient = new DatabaseSync(url.replace('sqlite:', ''), { timeout: 0 });
        const error = await catchError(Promise.resolve().then(() => impatient.exec('begin immediate')));
        impatient.close();
        assert.equal(isDatabaseUnavailable(error), true);
      });
    }));
});

describe('the database on PostgreSQL', { skip: !backends.includes('postgres+redis') }, () => {
  test('instances that start together on an empty database leave one set of tables and roles', () =>
    onEmptyDatabase('postgres+redis', async (url) => {
      const opened = await Promise.all(Array.from({ length: 8 }, () => openDatabase(url, ignore)));
      const [first, ...others] = await Promise.all(opened.map(describeSchema));
      for (const other of others) assert.deepEqual(other, first);
      assert.deepEqual(
        first?.roles.map((role) => role.name),
        ['admin', 'user'],
      );
      assert.equal(new Set(first?.migrations).size, first?.migrations.length, 'each migration ran once');
      await Promise.all(opened.map((database) => database.close()));
    }));

  test('a refused connection means that the database is unavailable', async () => {
    const error = await catchError(openDatabase(closedPortUrl, ignore));
    assert.ok(error instanceof Error);
    assert.equal(isDatabaseUnavailable(error), true);
  });

  test('an idle connection that the server ends is reported and ends nothing', () =>
    onEmptyDatabase('postgres+redis', async (url) => {
      const reported = Promise.withResolvers<Error>();
      const [cut, other] = [await openDatabase(url, reported.resolve), await openDatabase(url, ignore)];
      await sql`select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()`.execute(other.db);
      assert.equal(isDatabaseUnavailable(await reported.promise), true);
      await cut.ping();
      await Promise.all([cut.close(), other.close()]);
    }));
});

async function describeSchema({ db, dialect }: Database) {
  const listTables =
    dialect === 'sqlite'
      ? sql<object>`select type, name, sql from sqlite_schema order by name`
      : sql<object>`select table_name, column_name, data_type, is_nullable from information_schema.columns
          where table_schema = 'public' order by table_name, ordinal_position`;
  const migrations = await sql<{ name: string }>`select name from kysely_migration order by name`.execute(db);
  return {
    tables: (await listTables.execute(db)).rows,
    migrations: migrations.rows.map(({ name }) => name),
    roles: await db.selectFrom('roles').selectAll().orderBy('name').execute(),
  };
}

/** Holds SQLite's write lock in another thread; `released` resolves when it has let go. */
async function lockElsewhere(path: string, holdMs: number): Promise<{ released: Promise<unknown> }> {
  const code = `
    const { parentPort, workerData } = require('node:worker_threads');
    const { DatabaseSync } = require('node:sqlite');
    const database = new DatabaseSync(workerData.path);
    database.exec('begin immediate');
    parentPort.postMessage('locked');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, workerData.holdMs);
    database.exec('commit');
    database.close();`;
  const worker = new Worker(code, { eval: true, workerData: { path, holdMs } });
  await once(worker, 'message');
  return { released: once(worker, 'exit') };
}

function catchError(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => undefined,
    (error: unknown) => error,
  );
}

function ignore(): void {}
