import assert from 'node:assert/strict';
import { once } from 'node:events';
import { globSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { type CompiledQuery, Kysely, sql } from 'kysely';
import { type Backend, backends, createScratch } from '../../test/system.ts';
import * as account from '../account/store.ts';
import * as audit from '../audit/store.ts';
import { newId } from '../crypto/ids.ts';
import * as devices from '../devices/store.ts';
import * as keys from '../keys/store.ts';
import * as login from '../login/store.ts';
import * as mail from '../mail/store.ts';
import * as maintenance from '../maintenance/store.ts';
import * as password from '../password/store.ts';
import * as registration from '../registration/store.ts';
import * as sessions from '../sessions/store.ts';
import * as verification from '../verification/store.ts';
import { type Database, inTransaction, openDatabase } from './database.ts';
import { isDatabaseUnavailable, isUniqueViolation } from './failures.ts';
import type { Db, NewUserRow, OutboxRow, Schema, SessionRow } from './schema.ts';
import { createSqliteDialect } from './sqlite-dialect.ts';

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
        const user = { ...newUser(), created_at: Number.MAX_SAFE_INTEGER, last_login_at: null };
        await db.insertInto('users').values(user).execute();
        assert.deepEqual({ ...(await account.findUser(db, user.id)) }, user);
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

  test('every look-up of a growing table has an index', () =>
    onDatabase('sqlite+memory', async (_database, url) => {
      const path = url.replace('sqlite:', '');
      const queries: CompiledQuery[] = [];
      const dialect = createSqliteDialect(path);
      const db = new Kysely<Schema>({ dialect, log: (event) => void queries.push(event.query) });
      const called = await callEveryStore(db);
      await db.destroy();
      assert.deepEqual(called, await listStoreFunctions(), 'a new store function must be called here too');
      const reader = new DatabaseSync(path);
      const foreignKeys = reader.prepare(
        `select t.name as tbl, k."from" as col from pragma_table_list t join pragma_foreign_key_list(t.name) k`,
      );
      const cascades = foreignKeys.all().map(({ tbl, col }) => ({ sql: `delete from ${tbl} where ${col} = ?` }));
      const texts = [...queries, ...cascades].map((query) => query.sql);
      assert.ok(cascades.length >= 4 && queries.length >= called.length);
      const scans = [...new Set(texts)].flatMap((text) => findScans(reader, text));
      reader.close();
      assert.deepEqual(scans, []);
    }));
});

describe('the database on PostgreSQL', { skip: !backends.includes('postgres+redis') }, () => {
  test('instances that start together on an empty database leave one set of tables and roles', () =>
    onEmptyDatabase('postgres+redis', async (url) => {
      const opened = await Promise.all(Array.from({ length: 4 }, () => openDatabase(url, ignore)));
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

async function onEmptyDatabase(backend: Backend, check: (url: string) => Promise<void>): Promise<void> {
  const { environment, remove } = await createScratch(backend);
  try {
    await check(environment.DATABASE_URL ?? `sqlite:${join(environment.DATA_DIR ?? '', 'latchkey.db')}`);
  } finally {
    await remove();
  }
}

function onDatabase(backend: Backend, check: (database: Database, url: string) => Promise<void>): Promise<void> {
  return onEmptyDatabase(backend, async (url) => {
    const database = await openDatabase(url, ignore);
    try {
      await check(database, url);
    } finally {
      await database.close();
    }
  });
}

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

/** Calls every function of every store on real rows; returns their names. */
async function callEveryStore(db: Db): Promise<string[]> {
  const user = newUser();
  const { id: userId, email } = user;
  const session = newSession(userId);
  const sessionId = session.id;
  const waiting = newMail(userId);
  const nowMs = 1;
  const change = { userId, oldHash: 'a', newHash: 'b', nowMs };
  const signingKey = { kid: newId(), state: 'retired', publicJwk: {} as never, sealedPrivateJwk: 'sealed' } as const;
  const event = { id: newId(), type: 'login', occurred_at: nowMs, user_id: userId, details: '{}' };
  const pending = { user_id: userId, email: 'new@example.com', created_at: nowMs, expires_at: 2 };
  const calls: Record<string, () => Promise<unknown>[]> = {
    'registration.insertUser': () => [registration.insertUser(db, user)],
    'registration.insertUserRole': () => [registration.insertUserRole(db, userId, 'user')],
    'sessions.insertSession': () => [sessions.insertSession(db, session)],
    'sessions.findSessionWithUser': () => [sessions.findSessionWithUser(db, sessionId)],
    'sessions.advanceGeneration': () => [
      sessions.advanceGeneration(db, { sessionId, generation: 1, nowMs, idleExpiresAtMs: 2 }),
    ],
    'sessions.listLiveSessions': () => [
      sessions.listLiveSessions(db, userId, { limit: 50, after: undefined }, nowMs),
      sessions.listLiveSessions(db, userId, { limit: 50, after: { atMs: nowMs, id: newId() } }, nowMs),
    ],
    'sessions.updateAuthenticatedAt': () => [sessions.updateAuthenticatedAt(db, sessionId, userId, nowMs)],
    'sessions.deleteSessionsOverCap': () => [
      sessions.deleteSessionsOverCap(db, userId, { newestId: sessionId, cap: 20, nowMs }),
    ],
    'sessions.deleteSessionsOfUser': () => [
      sessions.deleteSessionsOfUser(db, userId, newId()),
      sessions.deleteSessionsOfUser(db, userId),
    ],
    'sessions.deleteSession': () => [sessions.deleteSession(db, sessionId, userId)],
    'devices.insertDevice': () => [devices.insertDevice(db, userId, 'fingerprint', nowMs)],
    'devices.touchDevice': () => [devices.touchDevice(db, userId, ['fingerprint', 'older'], nowMs)],
    'devices.listDevices': () => [devices.listDevices(db, userId, 50)],
    'devices.deleteDevicesOverCap': () => [devices.deleteDevicesOverCap(db, userId, 20)],
    'verification.findRecipient': () => [verification.findRecipient(db, email)],
    'login.findCandidate': () => [login.findCandidate(db, email)],
    'login.findCandidateById': () => [login.findCandidateById(db, userId)],
    'login.isUnchanged': () => [login.isUnchanged(db, user)],
    'login.recordLogin': () => [login.recordLogin(db, user, nowMs)],
    'login.replaceOutdatedHash': () => [login.replaceOutdatedHash(db, change)],
    'password.findPasswordOwner': () => [password.findPasswordOwner(db, userId)],
    'password.findResetOwner': () => [password.findResetOwner(db, email)],
    'password.replacePasswordHash': () => [
      password.replacePasswordHash(db, change),
      password.replacePasswordHash(db, { ...change, oldHash: null }),
    ],
    'password.setPasswordHash': () => [password.setPasswordHash(db, { ...change, email: newId() })],
    'password.deletePendingEmailChange': () => [password.deletePendingEmailChange(db, userId)],
    'mail.insertOutboxRow': () => [mail.insertOutboxRow(db, waiting)],
    'mail.claimDueRows': () => [mail.claimDueRows(db, { nowMs, leaseUntilMs: 2, batch: 20 })],
    'mail.postponeOutboxRow': () => [mail.postponeOutboxRow(db, waiting.id, 2)],
    'mail.deleteOutboxRow': () => [mail.deleteOutboxRow(db, waiting.id)],
    'audit.insertAuditEvent': () => [audit.insertAuditEvent(db, event)],
    'audit.anonymizeAuditEvents': () => [audit.anonymizeAuditEvents(db, userId)],
    'keys.updateSealedKey': () => [keys.updateSealedKey(db, newId(), { from: 'a', to: 'b' })],
    'keys.insertSigningKey': () => [keys.insertSigningKey(db, signingKey, nowMs)],
    'keys.listSigningKeys': () => [keys.listSigningKeys(db)],
    'keys.rememberSecretFingerprint': () => [keys.rememberSecretFingerprint(db, 'fingerprint', nowMs)],
    'keys.listSecretFingerprints': () => [keys.listSecretFingerprints(db)],
    'audit.listNewestEvents': () => [audit.listNewestEvents(db, userId, 50)],
    'account.putPendingEmailChange': () => [account.putPendingEmailChange(db, pending)],
    'account.findPendingEmailChange': () => [account.findPendingEmailChange(db, userId, nowMs)],
    'account.takePendingEmailChange': () => [account.takePendingEmailChange(db, userId, email, nowMs)],
    'account.updateEmail': () => [account.updateEmail(db, userId, email, nowMs)],
    'maintenance.takeLease': () => [
      maintenance.takeLease(db, { name: 'sweep', holder: 'me', nowMs, untilMs: 2 }),
      maintenance.takeLease(db, { name: 'sweep', holder: 'you', nowMs: 2, untilMs: 3 }),
    ],
    'maintenance.sweepSessions': () => [maintenance.sweepSessions(db, 0, 100)],
    'maintenance.sweepOutbox': () => [maintenance.sweepOutbox(db, 0, 100)],
    'maintenance.sweepPendingEmailChanges': () => [maintenance.sweepPendingEmailChanges(db, 0, 100)],
    'maintenance.sweepDevicesUnusedFor': () => [maintenance.sweepDevicesUnusedFor(0)(db, 3, 100)],
    'maintenance.sweepKeysRetiredFor': () => [maintenance.sweepKeysRetiredFor(0)(db, 0, 100)],
    'account.findUser': () => [account.findUser(db, userId)],
    'account.listRoleNames': () => [account.listRoleNames(db, userId)],
    'account.updateProfile': () => [account.updateProfile(db, userId, { name: 'Ada', updated_at: nowMs })],
    'account.deleteUser': () => [account.deleteUser(db, userId)],
  };
  for (const call of Object.values(calls)) await Promise.all(call());
  return Object.keys(calls).sort();
}

async function listStoreFunctions(): Promise<string[]> {
  const sourceFolder = join(import.meta.dirname, '..');
  const names: string[] = [];
  for (const path of globSync('*/store.ts', { cwd: sourceFolder })) {
    const exported = (await import(join(sourceFolder, path))) as Record<string, unknown>;
    for (const name of Object.keys(exported)) names.push(`${path.split('/')[0]}.${name}`);
  }
  return names.sort();
}

// Their rows do not grow with the users.
const smallTables = ['roles', 'signing_keys', 'secret_fingerprints', 'leases'];

/** The steps of a query's plan that read every row of a table that grows. */
function findScans(reader: DatabaseSync, text: string): string[] {
  const tables = reader.prepare(`select name from sqlite_schema where type = 'table'`).all();
  const growing = tables.map(({ name }) => String(name)).filter((name) => !smallTables.includes(name));
  const steps = reader.prepare(`explain query plan ${text}`).all() as { detail: string }[];
  const scans = steps.filter(({ detail }) => growing.includes(detail.match(/^SCAN (\w+)/)?.[1] ?? ''));
  return scans.map(({ detail }) => `${detail}: ${text}`);
}

function newUser() {
  const id = newId();
  return {
    id,
    email: `${id}@example.com`,
    name: null,
    locale: null,
    metadata: '{}',
    status: 'active',
    password_hash: null,
    created_at: 1,
    updated_at: 1,
    last_login_at: null,
  } as const satisfies NewUserRow;
}

function newSession(userId: string): SessionRow {
  const times = { created_at: 1, rotated_at: 1, authenticated_at: 1, idle_expires_at: 1, expires_at: 1 };
  const origin = { client_address: '127.0.0.1', user_agent: null, device_label: null };
  return { id: newId(), user_id: userId, generation: 1, salt: 'salt', ...times, ...origin };
}

function newMail(userId: string): OutboxRow {
  const times = { created_at: 1, expires_at: 1, next_attempt_at: 1 };
  return { id: newId(), user_id: userId, sealed_message: 'sealed', attempts: 0, ...times };
}

function catchError(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => undefined,
    (error: unknown) => error,
  );
}

function ignore(): void {}
