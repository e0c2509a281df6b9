import assert from 'node:assert/strict';
import { globSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, test } from 'node:test';
import { type CompiledQuery, Kysely, sql } from 'kysely';
import { newMail, newSession, newUser, onDatabase } from '../../test/database.ts';
import { findReading, onFilledDatabase } from '../../test/filled-database.ts';
import { backends } from '../../test/system.ts';
import * as account from '../account/store.ts';
import * as seals from '../audit/seal-store.ts';
import * as audit from '../audit/store.ts';
import { newId } from '../crypto/ids.ts';
import * as devices from '../devices/store.ts';
import * as guessing from '../guessing/store.ts';
import * as keys from '../keys/store.ts';
import * as login from '../login/store.ts';
import * as mail from '../mail/store.ts';
import * as maintenance from '../maintenance/store.ts';
import * as password from '../password/store.ts';
import * as registration from '../registration/store.ts';
import * as roles from '../roles/store.ts';
import * as sessions from '../sessions/store.ts';
import * as imports from '../users/import-store.ts';
import * as users from '../users/store.ts';
import * as verification from '../verification/store.ts';
import type { DialectName } from './migrate.ts';
import { createPostgresDialect } from './postgres-dialect.ts';
import type { Db, Schema } from './schema.ts';
import { createSqliteDialect } from './sqlite-dialect.ts';

describe('the database on SQLite', () => {
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

describe('the lists', () => {
  test('on SQLite every combination of filters is read in the order of an index, and nothing is sorted', () =>
    onDatabase('sqlite+memory', async (_database, url) => {
      const path = url.replace('sqlite:', '');
      const queries = await listQueries(
        (log) => new Kysely<Schema>({ dialect: createSqliteDialect(path), log: ({ query }) => log(query) }),
      );
      const reader = new DatabaseSync(path);
      const faults = queries.flatMap(({ sql: text }) => [...findScans(reader, text), ...findSorts(reader, text)]);
      reader.close();
      assert.equal(queries.length, listingShapes);
      assert.deepEqual(faults, []);
    }));

  test('on PostgreSQL too', { skip: !backends.includes('postgres+redis') }, () =>
    onDatabase('postgres+redis', async (database, url) => {
      const { dialect } = createPostgresDialect(url, {
        purpose: 'requests',
        maxConnections: 4,
        onConnectionError() {},
      });
      const queries = await listQueries((log) => new Kysely<Schema>({ dialect, log: ({ query }) => log(query) }));
      assert.equal(queries.length, listingShapes);
      const faults: string[] = [];
      await database.db.transaction().execute(async (tx) => {
        // What it would do with a million rows: with a handful it would read them all and sort them.
        await sql`set local enable_seqscan = off`.execute(tx);
        await sql`set local enable_sort = off`.execute(tx);
        await sql`set local enable_bitmapscan = off`.execute(tx);
        for (const query of queries) {
          const { rows } = await tx.executeQuery<Record<string, string>>({ ...query, sql: `explain ${query.sql}` });
          const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
          if (/Seq Scan|Sort/.test(plan)) faults.push(`${query.sql}\n${plan}`);
        }
      });
      assert.deepEqual(faults, []);
    }),
  );
});

// Of PostgreSQL only an execution tells what a plan reads; so there are rows enough to see it, and statistics of them.
describe('the database on PostgreSQL', { skip: !backends.includes('postgres+redis') }, () => {
  test('no query reads more than a page needs of tables with twenty thousand rows', () =>
    onFilledDatabase(async (database, url) => {
      const queries = new Map<string, CompiledQuery>();
      const log = ({ query }: { query: CompiledQuery }) => void queries.set(query.sql, query);
      const { dialect } = createPostgresDialect(url, {
        purpose: 'requests',
        maxConnections: 4,
        onConnectionError() {},
      });
      const db = new Kysely<Schema>({ dialect, log });
      const called = await callEveryStore(db, { dialect: 'postgres', seq: 1_000_000, prefix: 'person' });
      await db.destroy();
      assert.deepEqual(called, await listStoreFunctions(), 'a new store function must be called here too');
      const foreignKeys = await sql<{
        tbl: string;
        col: string;
      }>`select c.conrelid::regclass::text as tbl, a.attname as col
        from pg_constraint c join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
        where c.contype = 'f'`.execute(database.db);
      const cascades = foreignKeys.rows.map(({ tbl, col }) =>
        sql`delete from ${sql.table(tbl)} where ${sql.ref(col)} = 'nobody'`.compile(database.db),
      );
      assert.ok(cascades.length >= 5 && queries.size >= called.length);
      const faults: string[] = [];
      const explained = [...queries.values()].filter(({ sql: text }) => !text.startsWith('set '));
      for (const query of [...explained, ...cascades])
        faults.push(...(await findReading(database.db, query, smallTables)));
      assert.deepEqual(faults, []);
      const withoutIndex = sql`select id from users where name = 'nobody'`.compile(database.db);
      assert.equal((await findReading(database.db, withoutIndex, smallTables)).length, 2, 'it scans, and reads all');
    }));
});

/** Calls every function of every store on real rows; returns their names. */
async function callEveryStore(
  db: Db,
  { dialect = 'sqlite', seq = 1, prefix = 'ada' }: { dialect?: DialectName; seq?: number; prefix?: string } = {},
): Promise<string[]> {
  const user = newUser();
  const { id: userId, email } = user;
  const candidate = { ...user, proofs_valid_from: 0 };
  const session = newSession(userId);
  const sessionId = session.id;
  const waiting = newMail(userId);
  const nowMs = 1;
  const change = { userId, oldHash: 'a', newHash: 'b', nowMs };
  const signingKey = { kid: newId(), state: 'retired', publicJwk: {} as never, sealedPrivateJwk: 'sealed' } as const;
  const event = { id: newId(), type: 'login', occurred_at: nowMs, user_id: userId, details: '{}' };
  const chained = { seq: 1, total_count: 1, digest: 'digest', key_fingerprint: 'key', mac: 'mac' };
  const anchor = { ...chained, removed_at: nowMs };
  const made = { sealed_at: nowMs, newest_event_at: nowMs, event_count: 1, previous_digest: '' };
  const parts = { origin: 'origin', details: 'details' };
  const sealed = { id: event.id, salts: parts, commitments: parts };
  const seal = { ...chained, ...made, seq, manifest: '[]' };
  const role = { name: 'editor', description: '', permissions: '[]', created_at: nowMs };
  const pending = { user_id: userId, email: 'new@example.com', created_at: nowMs, expires_at: 2 };
  const failure = { lane: 'lane', userId, by: 1, expiresAtMs: 2, suspendedExpiresAtMs: 3 } as const;
  const calls: Record<string, () => Promise<unknown>[]> = {
    'registration.insertUser': () => [registration.insertUser(db, user)],
    'registration.insertUserRole': () => [registration.insertUserRole(db, userId, 'user')],
    'registration.activateInvited': () => [
      registration.activateInvited(db, { email: newId(), sentAtMs: nowMs }, { password_hash: 'hash' }, nowMs),
    ],
    'roles.insertRole': () => [roles.insertRole(db, role)],
    'roles.listRoleRows': () => [roles.listRoleRows(db)],
    'roles.findRole': () => [roles.findRole(db, role.name)],
    'roles.findRoles': () => [roles.findRoles(db, [role.name, 'user'])],
    'roles.updateRole': () => [roles.updateRole(db, role.name, { description: 'changed', permissions: '[]' })],
    'roles.lockRoles': () => [roles.lockRoles(db)],
    'roles.insertUserRoles': () => [roles.insertUserRoles(db, userId, [role.name, 'admin'])],
    'roles.listRolesOfUser': () => [roles.listRolesOfUser(db, userId)],
    'roles.hasOtherAdministrator': () => [roles.hasOtherAdministrator(db, userId)],
    'roles.deleteUserRoles': () => [roles.deleteUserRoles(db, userId, [role.name, 'admin'])],
    'roles.deleteRole': () => [roles.deleteRole(db, role.name)],
    'users.insertUser': () => [users.insertUser(db, newUser())],
    'users.isAddressTaken': () => [users.isAddressTaken(db, email)],
    'users.lockUserRow': () => [users.lockUserRow(db, userId)],
    'users.updateUser': () => [users.updateUser(db, userId, { name: 'Ada', updated_at: nowMs })],
    'users.listRoleNamesOf': () => [users.listRoleNamesOf(db, [userId, newId()])],
    'users.listUsersByTime': () => listings(db, prefix).byTime,
    'users.lookAtHolders': () => listings(db, prefix).byRole,
    'users.listUsersByAddress': () => listings(db, prefix).byAddress,
    'users.lookAtAddresses': () => listings(db, prefix).toLookAt,
    'users.pickByStatus': () => [users.pickByStatus(db, [userId, newId()], 'active')],
    'users.pickByRole': () => [users.pickByRole(db, [userId, newId()], 'user')],
    'users.findUserRows': () => [users.findUserRows(db, [userId, newId()])],
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
    'devices.touchDevice': () => [devices.touchDevice(db, userId, 'fingerprint', nowMs)],
    'devices.deleteDevice': () => [devices.deleteDevice(db, userId, ['older', 'oldest'])],
    'devices.deleteDevicesOfUser': () => [devices.deleteDevicesOfUser(db, userId)],
    'devices.listDevices': () => [devices.listDevices(db, userId, 50)],
    'devices.deleteDevicesOverCap': () => [devices.deleteDevicesOverCap(db, userId, 20)],
    'devices.findDevice': () => [devices.findDevice(db, userId, ['newest', 'older'])],
    'guessing.countFailure': () => [
      guessing.countFailure(db, { ...failure, olderLanes: [] }),
      guessing.countFailure(db, { ...failure, olderLanes: ['older', 'oldest'] }),
    ],
    'guessing.takeFailureBack': () => [guessing.takeFailureBack(db, 'lane')],
    'guessing.suspendLane': () => [guessing.suspendLane(db, { lane: 'lane', failures: 100, nowMs, expiresAtMs: 2 })],
    'guessing.deleteFailures': () => [guessing.deleteFailures(db, ['lane', 'older'])],
    'guessing.deleteFailuresOfUser': () => [guessing.deleteFailuresOfUser(db, userId)],
    'verification.findRecipient': () => [verification.findRecipient(db, email)],
    'verification.lockRecipient': () => [verification.lockRecipient(db, email)],
    'login.findCandidate': () => [login.findCandidate(db, email)],
    'login.findCandidateById': () => [login.findCandidateById(db, userId)],
    'login.lockIfUnchanged': () => [login.lockIfUnchanged(db, candidate), login.lockIfUnchanged(db, candidate, nowMs)],
    'login.lockUser': () => [login.lockUser(db, userId)],
    'login.recordLogin': () => [login.recordLogin(db, candidate, { nowMs })],
    'login.replaceOutdatedHash': () => [login.replaceOutdatedHash(db, change)],
    'password.findPasswordOwner': () => [password.findPasswordOwner(db, userId)],
    'password.findResetOwner': () => [password.findResetOwner(db, email)],
    'password.replacePasswordHash': () => [
      password.replacePasswordHash(db, change),
      password.replacePasswordHash(db, { ...change, oldHash: null }),
    ],
    'password.setPasswordHash': () => [
      password.setPasswordHash(db, { ...change, email: newId(), proofSentAtMs: nowMs }),
    ],
    'account.deletePendingEmailChange': () => [account.deletePendingEmailChange(db, userId, nowMs)],
    'mail.insertOutboxRow': () => [mail.insertOutboxRow(db, waiting)],
    'mail.claimDueRows': () => [mail.claimDueRows(db, { nowMs, leaseUntilMs: 2, batch: 20 })],
    'mail.postponeOutboxRow': () => [mail.postponeOutboxRow(db, waiting.id, 2)],
    'mail.releaseOutboxRows': () => [mail.releaseOutboxRows(db, [waiting.id], 2)],
    'mail.readOutboxDepth': () => [mail.readOutboxDepth(db)],
    'mail.deleteOutboxRows': () => [mail.deleteOutboxRows(db, [waiting.id])],
    'audit.insertAuditEvent': () => [audit.insertAuditEvent(db, event)],
    'audit.listEventPage': () => listings(db, prefix).events,
    'audit.anonymizeActs': () => [audit.anonymizeActs(db, userId, 50)],
    'audit.anonymizeEvents': () => [audit.anonymizeEvents(db, userId, 50)],
    'audit.insertPendingErasure': () => [audit.insertPendingErasure(db, userId, nowMs)],
    'audit.findPendingErasure': () => [audit.findPendingErasure(db, nowMs)],
    'audit.hasUnsealedEvents': () => [seals.hasUnsealedEvents(db)],
    'audit.lockUnsealedEvents': () => [seals.lockUnsealedEvents(db, dialect, 200)],
    'audit.countUnsealedEvents': () => [seals.countUnsealedEvents(db)],
    'audit.sealEvents': () => [seals.sealEvents(db, seq, [sealed])],
    'audit.insertSeal': () => [seals.insertSeal(db, seal)],
    'audit.findNewestSeal': () => [seals.findNewestSeal(db)],
    'audit.findAnchor': () => [seals.findAnchor(db)],
    'audit.putAnchor': () => [seals.putAnchor(db, anchor)],
    'audit.updateAnchorMac': () => [seals.updateAnchorMac(db, anchor)],
    'audit.listSealsAfter': () => [seals.listSealsAfter(db, 0, 20)],
    'audit.listSealedEventsAfter': () => [seals.listSealedEventsAfter(db, { sealSeq: 0, id: '' }, 500)],
    'audit.isToldErased': () => [seals.isToldErased(db, userId)],
    'audit.findSealOfEvent': () => [seals.findSealOfEvent(db, event.id)],
    'audit.listErasedUsersThrough': () => [seals.listErasedUsersThrough(db, chained.seq)],
    'audit.listOldestSeals': () => [seals.listOldestSeals(db, 200)],
    'audit.deleteSealsThrough': () => [seals.deleteSealsThrough(db, chained.seq)],
    'audit.deletePendingErasure': () => [audit.deletePendingErasure(db, userId)],
    'keys.updateSealedKey': () => [keys.updateSealedKey(db, newId(), { from: 'a', to: 'b' })],
    'keys.insertSigningKey': () => [keys.insertSigningKey(db, signingKey, nowMs)],
    'keys.moveSigningKey': () => [keys.moveSigningKey(db, newId(), { from: 'active', to: 'retired', nowMs })],
    'keys.lockSigningKeys': () => [keys.lockSigningKeys(db)],
    'keys.deleteSigningKey': () => [keys.deleteSigningKey(db, newId())],
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
    'maintenance.sweepPasswordFailures': () => [maintenance.sweepPasswordFailures(db, 0, 100)],
    'maintenance.sweepDevicesUnusedFor': () => [maintenance.sweepDevicesUnusedFor(0)(db, 3, 100)],
    'maintenance.sweepKeysRetiredFor': () => [maintenance.sweepKeysRetiredFor(0)(db, 0, 100)],
    'account.lockUser': () => [account.lockUser(db, userId)],
    'users.findExistingUsers': () => [imports.findExistingUsers(db, [email], [userId])],
    'users.insertImportedUsers': () => [imports.insertImportedUsers(db, [newUser(), newUser()])],
    'users.insertUserRoles': () => [imports.insertUserRoles(db, [{ user_id: userId, role_name: 'admin' }])],
    'users.updateImportedUser': () => [imports.updateImportedUser(db, user, { name: 'Ada', updated_at: nowMs })],
    'users.listRoles': () => [imports.listRoles(db)],
    'users.listUsersAfter': () => [imports.listUsersAfter(db, '', 50)],
    'users.listRolesOfUsers': () => [imports.listRolesOfUsers(db, [userId])],
    'account.findUserWithRoles': () => [account.findUserWithRoles(db, userId)],
    'account.updateProfile': () => [account.updateProfile(db, userId, { name: 'Ada', updated_at: nowMs })],
    'account.deleteUser': () => [account.deleteUser(db, userId)],
  };
  for (const call of Object.values(calls)) await Promise.all(call());
  return Object.keys(calls).sort();
}

// By time with and without a status; by role on the first page and later; by address also with a status, and the same
// again with a role; and every choice among three filters of events.
const listingShapes = 2 + 2 + 2 * 2 + 2 * 2 + 2 ** 3;

/** Every list with every combination of its filters, on the first page and on a later one. */
function listings(db: Db, prefix = 'ada') {
  const after = { atMs: 1, id: newId() };
  const statuses = [undefined, 'active', 'invited'] as const;
  const either = <T>(value: T) => [undefined, value];
  return {
    byTime: statuses.flatMap((status) =>
      either(after).map((position) => users.listUsersByTime(db, status, { limit: 50, after: position })),
    ),
    byAddress: statuses.flatMap((status) =>
      either('ada@example.com').map((afterEmail) =>
        users.listUsersByAddress(db, { prefix, status }, { limit: 50, afterEmail }),
      ),
    ),
    toLookAt: statuses.flatMap((status) =>
      either('ada@example.com').map((afterEmail) =>
        users.lookAtAddresses(db, { prefix, status }, { count: 50, afterEmail }),
      ),
    ),
    byRole: either(after.id).map((afterId) => users.lookAtHolders(db, 'user', { count: 50, afterId })),
    events: either(newId()).flatMap((userId) =>
      either('user.updated').flatMap((type) =>
        either(1).flatMap((sinceMs) =>
          either(2).flatMap((untilMs) =>
            either(after).map((position) =>
              audit.listEventPage(db, { userId, type, sinceMs, untilMs }, { limit: 50, after: position }),
            ),
          ),
        ),
      ),
    ),
  };
}

/** The texts of the queries of every list. */
async function listQueries(connect: (log: (query: CompiledQuery) => void) => Kysely<Schema>): Promise<CompiledQuery[]> {
  const queries = new Map<string, CompiledQuery>();
  const db = connect((query) => queries.set(query.sql, query));
  await Promise.all(Object.values(listings(db)).flat());
  await db.destroy();
  return [...queries.values()];
}

async function listStoreFunctions(): Promise<string[]> {
  const sourceFolder = join(import.meta.dirname, '..');
  const names: string[] = [];
  for (const path of globSync('*/{store,*-store}.ts', { cwd: sourceFolder })) {
    const exported = (await import(join(sourceFolder, path))) as Record<string, unknown>;
    for (const name of Object.keys(exported)) names.push(`${path.split('/')[0]}.${name}`);
  }
  return names.sort();
}

// Their rows do not grow with the users.
const smallTables = ['roles', 'signing_keys', 'secret_fingerprints', 'leases', 'audit_anchors'];

/** The steps of a query's plan that sort. */
function findSorts(reader: DatabaseSync, text: string): string[] {
  const steps = reader.prepare(`explain query plan ${text}`).all() as { detail: string }[];
  return steps.filter(({ detail }) => detail.includes('TEMP B-TREE')).map(({ detail }) => `${detail}: ${text}`);
}

/** The steps of a query's plan that read every row of a table that grows. */
function findScans(reader: DatabaseSync, text: string): string[] {
  const tables = reader.prepare(`select name from sqlite_schema where type = 'table'`).all();
  const growing = tables.map(({ name }) => String(name)).filter((name) => !smallTables.includes(name));
  const steps = reader.prepare(`explain query plan ${text}`).all() as { detail: string }[];
  const scans = steps.filter(({ detail }) => {
    const scanned = detail.match(/^SCAN (\w+)/)?.[1] ?? '';
    // The plan calls a table by its alias.
    const table = new RegExp(`"(\\w+)" as "${scanned}"`).exec(text)?.[1] ?? scanned;
    const isScan = growing.includes(table);
    // An index that is searched by nothing but what most rows have alike is a scan too.
    const isByCommon = /\((?:status|type)=\?\)$/.test(detail);
    // So is the index of types where the user is known, who has few events of any.
    const isByType = detail.includes('audit_events_type_time') && text.includes('"user_id" = ?');
    return isScan || isByCommon || isByType;
  });
  return scans.map(({ detail }) => `${detail}: ${text}`);
}
