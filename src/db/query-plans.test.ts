import assert from 'node:assert/strict';
import { globSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, test } from 'node:test';
import { type CompiledQuery, Kysely } from 'kysely';
import { newMail, newSession, newUser, onDatabase } from '../../test/database.ts';
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
import * as users from '../users/import-store.ts';
import * as verification from '../verification/store.ts';
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
    'devices.touchDevice': () => [devices.touchDevice(db, userId, 'fingerprint', nowMs)],
    'devices.deleteDevice': () => [devices.deleteDevice(db, userId, ['older', 'oldest'])],
    'devices.deleteDevicesOfUser': () => [devices.deleteDevicesOfUser(db, userId)],
    'devices.listDevices': () => [devices.listDevices(db, userId, 50)],
    'devices.deleteDevicesOverCap': () => [devices.deleteDevicesOverCap(db, userId, 20)],
    'verification.findRecipient': () => [verification.findRecipient(db, email)],
    'login.findCandidate': () => [login.findCandidate(db, email)],
    'login.findCandidateById': () => [login.findCandidateById(db, userId)],
    'login.lockIfUnchanged': () => [login.lockIfUnchanged(db, user), login.lockIfUnchanged(db, user, nowMs)],
    'login.lockUser': () => [login.lockUser(db, userId)],
    'login.recordLogin': () => [login.recordLogin(db, user, { nowMs })],
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
    'account.deletePendingEmailChange': () => [account.deletePendingEmailChange(db, userId)],
    'mail.insertOutboxRow': () => [mail.insertOutboxRow(db, waiting)],
    'mail.claimDueRows': () => [mail.claimDueRows(db, { nowMs, leaseUntilMs: 2, batch: 20 })],
    'mail.postponeOutboxRow': () => [mail.postponeOutboxRow(db, waiting.id, 2)],
    'mail.releaseOutboxRows': () => [mail.releaseOutboxRows(db, [waiting.id], 2)],
    'mail.deleteOutboxRows': () => [mail.deleteOutboxRows(db, [waiting.id])],
    'audit.insertAuditEvent': () => [audit.insertAuditEvent(db, event)],
    'audit.anonymizeEvents': () => [audit.anonymizeEvents(db, userId, 50)],
    'audit.insertPendingErasure': () => [audit.insertPendingErasure(db, userId, nowMs)],
    'audit.findPendingErasure': () => [audit.findPendingErasure(db, nowMs)],
    'audit.deletePendingErasure': () => [audit.deletePendingErasure(db, userId)],
    'keys.updateSealedKey': () => [keys.updateSealedKey(db, newId(), { from: 'a', to: 'b' })],
    'keys.insertSigningKey': () => [keys.insertSigningKey(db, signingKey, nowMs)],
    'keys.moveSigningKey': () => [keys.moveSigningKey(db, newId(), { from: 'active', to: 'retired', nowMs })],
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
    'users.findExistingUsers': () => [users.findExistingUsers(db, [email], [userId])],
    'users.insertImportedUsers': () => [users.insertImportedUsers(db, [newUser(), newUser()])],
    'users.insertUserRoles': () => [users.insertUserRoles(db, [{ user_id: userId, role_name: 'admin' }])],
    'users.updateImportedUser': () => [users.updateImportedUser(db, user, { name: 'Ada', updated_at: nowMs })],
    'users.listRoles': () => [users.listRoles(db)],
    'users.listUsersAfter': () => [users.listUsersAfter(db, '', 50)],
    'users.listRolesOfUsers': () => [users.listRolesOfUsers(db, [userId])],
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
  for (const path of globSync('*/{store,*-store}.ts', { cwd: sourceFolder })) {
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
