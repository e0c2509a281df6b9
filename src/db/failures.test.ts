import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { sql } from 'kysely';
import { type Backend, backends, createScratch } from '../../test/system.ts';
import { newId } from '../crypto/ids.ts';
import { type Database, inTransaction, openDatabase } from './database.ts';
import { isDatabaseUnavailable, isForeignKeyViolation, isUniqueViolation, mayPass } from './failures.ts';

describe('what an error says about the database', () => {
  test('of PostgreSQL’s states, those that pass by themselves or name an absent database mean unavailable', () => {
    const away = ['08006', '08P01', '28000', '28P01', '3D000', '53300', '53100', '57P01', '57P03', '57014', '25006'];
    for (const code of [...away, '25P03', '55P03', '40001', '40P01']) {
      assert.equal(isDatabaseUnavailable(withCode(code)), true, code);
    }
    for (const code of ['23505', '23503', '42601', '42P01', '22001', '25P02', '57000', 'P0001']) {
      assert.equal(isDatabaseUnavailable(withCode(code)), false, code);
    }
  });

  test('of SQLite’s codes, those of the lock, the file and the disk mean unavailable, whatever their extension', () => {
    for (const errcode of [5, 6, 8, 10, 13, 14, 261, 517, 776, 1544, 778, 1038]) {
      assert.equal(isDatabaseUnavailable(Object.assign(new Error(), { errcode })), true, `${errcode}`);
    }
    for (const errcode of [1, 787, 11, 19, 1555, 2067, 20, 26]) {
      assert.equal(isDatabaseUnavailable(Object.assign(new Error(), { errcode })), false, `${errcode}`);
    }
  });

  test('a connection that breaks elsewhere, such as that of a client who aborts an upload, says nothing of it', () => {
    for (const code of ['ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ECONNREFUSED']) {
      assert.equal(isDatabaseUnavailable(Object.assign(new Error('aborted'), { code })), false, code);
    }
    assert.equal(isDatabaseUnavailable(new Error('Connection terminated unexpectedly')), false);
    assert.equal(isDatabaseUnavailable(undefined), false);
  });

  test('of what can meet a start, it waits for what passes by itself and for nothing that needs a hand', () => {
    for (const code of ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', '08006', '57P01', '57P03', '53300', '55P03']) {
      assert.equal(mayPass(withCode(code)), true, code);
    }
    assert.equal(mayPass(Object.assign(withCode('ENOENT'), { syscall: 'connect' })), true, 'a socket file');
    assert.equal(mayPass(new Error('Connection terminated due to connection timeout')), true);
    for (const errcode of [5, 6, 261]) assert.equal(mayPass(Object.assign(new Error(), { errcode })), true);
    for (const code of ['28P01', '28000', '3D000', '42501', '25006', '08P01', 'CERT_HAS_EXPIRED', 'ENOENT', 'EACCES']) {
      assert.equal(mayPass(withCode(code)), false, code);
    }
    for (const errcode of [8, 13, 14, 26]) assert.equal(mayPass(Object.assign(new Error(), { errcode })), false);
    assert.equal(mayPass(new Error('something else')), false);
  });

  test('a PostgreSQL server that refuses or resets the connection is unavailable', async () => {
    const server = createServer((socket) => socket.once('data', () => socket.resetAndDestroy()));
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const { port } = server.address() as { port: number };
    const open = () => catchError(openDatabase(`postgres://postgres@127.0.0.1:${port}/postgres`, ignore));
    const reset = await open();
    assert.match(String(reset), /ECONNRESET|Connection terminated/);
    assert.equal(isDatabaseUnavailable(reset), true);
    server.close();
    await once(server, 'close');
    const refused = await open();
    assert.match(String(refused), /ECONNREFUSED/);
    assert.equal(isDatabaseUnavailable(refused), true);
  });
});

for (const backend of backends) {
  describe(`failures of the database (${backend})`, () => {
    test('a violated foreign key is told from a violated unique index', () =>
      onDatabase(backend, async ({ db }) => {
        const orphan = await catchError(
          db.insertInto('user_roles').values({ user_id: newId(), role_name: 'user' }).execute(),
        );
        const role = { name: 'user', description: '', permissions: '[]', created_at: 1 };
        const double = await catchError(db.insertInto('roles').values(role).execute());
        assert.deepEqual([isForeignKeyViolation(orphan), isUniqueViolation(orphan)], [true, false]);
        assert.deepEqual([isForeignKeyViolation(double), isUniqueViolation(double)], [false, true]);
      }));

    test('the probe reads a row, so a database without its tables does not answer it', () =>
      onDatabase(backend, async (database) => {
        await database.ping();
        await sql`alter table roles rename to lost`.execute(database.db);
        await assert.rejects(database.ping());
      }));
  });
}

describe('failures of the database (PostgreSQL)', { skip: !backends.includes('postgres+redis') }, () => {
  test('a connection that the server cuts between two statements of a transaction ends nothing but that', () =>
    onDatabase('postgres+redis', async ({ db }) => {
      const error = await catchError(
        inTransaction(db, async (tx) => {
          await insertRole(tx, 'lost');
          await cutOthers(db);
          // Long enough for the cut to arrive while no statement is under way.
          while ((await countConnections(db)) > 1) await nextTurn();
          await insertRole(tx, 'never');
        }),
      );
      assert.equal(isDatabaseUnavailable(error), true, String(error));
      await inTransaction(db, (tx) => insertRole(tx, 'kept'));
      assert.deepEqual(await listRoles(db), ['admin', 'kept', 'user']);
    }));

  test('a statement that takes too long is ended by the server, and the transaction is rolled back', () =>
    onDatabase('postgres+redis', async ({ db }) => {
      const error = await catchError(
        inTransaction(db, async (tx) => {
          await insertRole(tx, 'lost');
          await sql`set local statement_timeout = 50`.execute(tx);
          await sql`select pg_sleep(5)`.execute(tx);
        }),
      );
      assert.equal((error as { code?: string }).code, '57014');
      assert.equal(isDatabaseUnavailable(error), true);
      assert.deepEqual(await listRoles(db), ['admin', 'user']);
    }));
});

describe('failures of the database (SQLite)', () => {
  test('a full disk is reported as such, leaves nothing of the transaction, and heals', () =>
    onDatabase('sqlite+memory', async ({ db }) => {
      const { rows } = await sql<{ page_count: number }>`pragma page_count`.execute(db);
      await sql`pragma max_page_count = ${sql.lit(rows[0]?.page_count ?? 0)}`.execute(db);
      const fill = () => inTransaction(db, (tx) => insertRole(tx, newId(), 'x'.repeat(1_000_000)));
      const error = await catchError(fill());
      assert.equal((error as { errcode?: number }).errcode, 13, String(error));
      assert.equal(isDatabaseUnavailable(error), true);
      assert.deepEqual(await listRoles(db), ['admin', 'user']);
      await sql`pragma max_page_count = 1000000`.execute(db);
      await fill();
      assert.equal((await listRoles(db)).length, 3);
    }));

  test('work that goes on after SQLite rolled back by itself is refused, and none of it is kept', () =>
    onDatabase('sqlite+memory', async ({ db }) => {
      const { rows } = await sql<{ page_count: number }>`pragma page_count`.execute(db);
      await sql`pragma max_page_count = ${sql.lit(rows[0]?.page_count ?? 0)}`.execute(db);
      const swallowing = inTransaction(db, async (tx) => {
        await insertRole(tx, 'big', 'x'.repeat(1_000_000)).catch(ignore);
        await insertRole(tx, 'small');
      });
      assert.equal(isDatabaseUnavailable(await catchError(swallowing)), true);
      const empty = inTransaction(db, (tx) => insertRole(tx, 'big', 'x'.repeat(1_000_000)).catch(ignore));
      assert.equal(isDatabaseUnavailable(await catchError(empty)), true, 'a commit of nothing is no success');
      assert.deepEqual(await listRoles(db), ['admin', 'user']);
    }));

  test('a database that cannot be written is unavailable', () =>
    onDatabase('sqlite+memory', async ({ db }) => {
      await sql`pragma query_only = 1`.execute(db);
      assert.equal(isDatabaseUnavailable(await catchError(insertRole(db, 'one'))), true);
    }));

  test('a database that cannot be opened is unavailable', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'latchkey-'));
    assert.equal(isDatabaseUnavailable(await catchError(openDatabase(`sqlite:${folder}`, ignore))), true);
    rmSync(folder, { recursive: true });
  });

  test('a transaction that waits for another process keeps nobody here from reading', () =>
    onDatabase('sqlite+memory', async ({ db }, path) => {
      const other = new DatabaseSync(path);
      other.exec('begin immediate');
      const writes = Promise.all(['one', 'two'].map((name) => inTransaction(db, (tx) => insertRole(tx, name))));
      const single = insertRole(db, 'three');
      for (let turn = 0; turn < 20; turn += 1) {
        assert.deepEqual(await listRoles(db), ['admin', 'user']);
        await nextTurn();
      }
      other.exec('commit');
      other.close();
      await Promise.all([writes, single]);
      assert.deepEqual(await listRoles(db), ['admin', 'one', 'three', 'two', 'user']);
    }));

  test('nothing of others comes between the statements of a transaction, and those who wait go on in order', () =>
    onDatabase('sqlite+memory', async ({ db }) => {
      const order: string[] = [];
      const slow = inTransaction(db, async (tx) => {
        await insertRole(tx, 'unfinished');
        order.push('inserted');
        for (let turn = 0; turn < 10; turn += 1) await nextTurn();
        order.push('failed');
        throw new Error('changed my mind');
      });
      while (order.length === 0) await nextTurn();
      const others = ['first', 'second', 'third'].map(async (name, index) => {
        const write = index === 1 ? inTransaction(db, (tx) => insertRole(tx, name)) : insertRole(db, name);
        await write;
        order.push(name);
      });
      assert.equal((await listRoles(db)).includes('unfinished'), false, 'a reader waits for the end');
      await assert.rejects(slow, /changed my mind/);
      await Promise.all(others);
      assert.deepEqual(order.slice(0, 2), ['inserted', 'failed']);
      // They are one commit, so they are told in no particular order; they wrote in theirs.
      assert.deepEqual(order.slice(2).sort(), ['first', 'second', 'third']);
      const written = await sql<{ name: string }>`select name from roles order by rowid desc limit 3`.execute(db);
      assert.deepEqual(
        written.rows.map(({ name }) => name),
        ['third', 'second', 'first'],
      );
    }));

  test('its files can be read by their owner alone, also in a folder that everybody may look into', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'latchkey-'));
    chmodSync(folder, 0o755);
    const path = join(folder, 'latchkey.db');
    const database = await openDatabase(`sqlite:${path}`, ignore);
    await insertRole(database.db, 'one');
    for (const suffix of ['', '-wal', '-shm']) assert.equal(statSync(path + suffix).mode & 0o777, 0o600, suffix);
    await database.close();
    rmSync(folder, { recursive: true });
  });

  test('the mode that an operator gave to the file is left alone', () =>
    onDatabase('sqlite+memory', async (database, path) => {
      await database.close();
      chmodSync(path, 0o640);
      const again = await openDatabase(`sqlite:${path}`, ignore);
      assert.equal(statSync(path).mode & 0o777, 0o640);
      await again.close();
    }));

  test('a file that is no database is named so and left as it is', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'latchkey-'));
    const path = join(folder, 'letter.txt');
    writeFileSync(path, 'Dear Ada, this is not a database. '.repeat(100));
    const error = await catchError(openDatabase(`sqlite:${path}`, ignore));
    assert.match(String(error), /not a database/);
    assert.equal(isDatabaseUnavailable(error), false);
    assert.match(readFileSync(path, 'utf8'), /^Dear Ada/);
    rmSync(folder, { recursive: true });
  });
});

async function onDatabase(backend: Backend, check: (database: Database, path: string) => Promise<void>): Promise<void> {
  const { environment, remove } = await createScratch(backend);
  const path = join(environment.DATA_DIR ?? '', 'latchkey.db');
  const database = await openDatabase(environment.DATABASE_URL ?? `sqlite:${path}`, ignore);
  try {
    await check(database, path);
  } finally {
    await database.close().catch(ignore);
    await remove();
  }
}

async function insertRole(db: Database['db'], name: string, description = ''): Promise<void> {
  await db.insertInto('roles').values({ name, description, permissions: '[]', created_at: 1 }).execute();
}

async function listRoles(db: Database['db']): Promise<string[]> {
  const rows = await db.selectFrom('roles').select('name').orderBy('name').execute();
  return rows.map(({ name }) => name);
}

async function cutOthers(db: Database['db']): Promise<void> {
  await sql`select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()`.execute(db);
}

async function countConnections(db: Database['db']): Promise<number> {
  const { rows } = await sql<{ count: number }>`select count(*) as count from pg_stat_activity
    where datname = current_database()`.execute(db);
  return rows[0]?.count ?? 0;
}

function withCode(code: string): Error {
  return Object.assign(new Error(), { code });
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
