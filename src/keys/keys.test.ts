import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { createLocalJWKSet, exportJWK, jwtVerify, SignJWT } from 'jose';
import { registerUser } from '../../test/accounts.ts';
import { call } from '../../test/client.ts';
import { type Backend, backends, createScratch, describeOnBackends } from '../../test/system.ts';
import { createKeyring } from '../crypto/secrets.ts';
import { openDatabase } from '../db/database.ts';
import type { Db } from '../db/schema.ts';
import { checkSecretFingerprint, loadSigningKeys, rememberSecrets, WrongSecretError } from './flow.ts';

const nowMs = 1_800_000_000_000;
const ignore = () => {};

for (const backend of backends) {
  describe(`signing keys (${backend})`, () => {
    test('the first start makes one active and one next key, and the next start finds the same', () =>
      onDatabase(backend, async (db) => {
        const keyring = newKeyring();
        const first = await loadSigningKeys(db, keyring, () => nowMs, ignore);
        const rows = await readKeys(db);
        assert.deepEqual(
          rows.map(({ state, created_at, activated_at, retired_at }) => ({
            state,
            created_at,
            activated_at,
            retired_at,
          })),
          [
            { state: 'active', created_at: nowMs, activated_at: nowMs, retired_at: null },
            { state: 'next', created_at: nowMs, activated_at: null, retired_at: null },
          ],
        );
        const second = await loadSigningKeys(db, keyring, () => nowMs + 1, ignore);
        assert.deepEqual(await readKeys(db), rows);
        assert.equal(first.active().kid, rows[0]?.kid);
        assert.equal(second.active().kid, rows[0]?.kid);
        assert.deepEqual(second.publicJwks(), first.publicJwks());
      }));

    test('instances that start together leave exactly one key of each state', () =>
      onDatabase(backend, async (db) => {
        const keyring = newKeyring();
        const loaded = await Promise.all(
          Array.from({ length: 5 }, () => loadSigningKeys(db, keyring, () => nowMs, ignore)),
        );
        assert.deepEqual(
          (await readKeys(db)).map(({ state }) => state),
          ['active', 'next'],
        );
        assert.equal(new Set(loaded.map((keys) => keys.active().kid)).size, 1, 'all sign with the same key');
      }));

    test('what the active key signs, its public half verifies by exact key id', () =>
      onDatabase(backend, async (db) => {
        const keys = await loadSigningKeys(db, newKeyring(), () => nowMs, ignore);
        const { kid, privateKey } = keys.active();
        const token = await new SignJWT({ sub: 'me' }).setProtectedHeader({ alg: 'ES256', kid }).sign(privateKey);
        const shown = createLocalJWKSet({ keys: [...keys.publicJwks()] });
        assert.equal((await jwtVerify(token, shown)).payload.sub, 'me');
        const publicKey = keys.find(kid);
        assert.ok(publicKey);
        assert.equal((await jwtVerify(token, publicKey)).payload.sub, 'me');
        for (const wrong of ['', kid.toUpperCase(), `${kid} `, kid.slice(1), '__proto__']) {
          assert.equal(keys.find(wrong), undefined, wrong);
        }
      }));

    test('the private halves are sealed in their rows and cannot be taken out of memory', () =>
      onDatabase(backend, async (db) => {
        const keys = await loadSigningKeys(db, newKeyring(), () => nowMs, ignore);
        for (const row of await readKeys(db)) {
          assert.match(row.sealed_private_jwk, /^v1\.[0-9a-f]{16}\.[A-Za-z0-9_-]+$/);
          assert.deepEqual(Object.keys(JSON.parse(row.public_jwk)).sort(), publicMembers);
        }
        await assert.rejects(exportJWK(keys.active().privateKey), /non-extractable/);
      }));

    test('a sealed key that is moved to another row does not open', () =>
      onDatabase(backend, async (db) => {
        const keyring = newKeyring();
        await loadSigningKeys(db, keyring, () => nowMs, ignore);
        const [active, next] = await readKeys(db);
        await db
          .updateTable('signing_keys')
          .set({ sealed_private_jwk: next?.sealed_private_jwk ?? '' })
          .where('kid', '=', active?.kid ?? '')
          .execute();
        await assert.rejects(loadSigningKeys(db, keyring, () => nowMs, ignore));
      }));

    test('a foreign SECRET_KEY stops the start and writes nothing', () =>
      onDatabase(backend, async (db) => {
        await start(db, newKeyring());
        const before = await readAll(db);
        for (const foreign of [newKeyring(), createKeyring([newSecret(), newSecret()])]) {
          await assert.rejects(start(db, foreign), (error) => {
            assert.ok(error instanceof WrongSecretError);
            assert.match(error.message, /^SECRET_KEY is not the one that this database was made with/);
            return true;
          });
          assert.deepEqual(await readAll(db), before);
        }
      }));

    test('a new secret before the old one starts and is remembered once', () =>
      onDatabase(backend, async (db) => {
        const [older, newer] = [newSecret(), newSecret()];
        const first = await start(db, createKeyring([older]));
        for (let restart = 0; restart < 2; restart += 1) {
          const rotated = await start(db, createKeyring([newer, older]));
          assert.equal(rotated.active().kid, first.active().kid);
        }
        const { fingerprints } = await readAll(db);
        const expected = [older, newer].map((secret) => createKeyring([secret]).current.fingerprint);
        assert.deepEqual(fingerprints.map(({ fingerprint }) => fingerprint).sort(), expected.sort());
      }));

    test('after one start with both secrets the old one can be taken away, and the keys stay', () =>
      onDatabase(backend, async (db) => {
        const [older, newer] = [newSecret(), newSecret()];
        const first = await start(db, createKeyring([older]));
        await start(db, createKeyring([newer, older]));
        assert.equal((await start(db, createKeyring([newer]))).active().kid, first.active().kid);
      }));

    test('a rotation is taken back by putting the old secret first again, and alone it says so', () =>
      onDatabase(backend, async (db) => {
        const [older, newer] = [newSecret(), newSecret()];
        const first = await start(db, createKeyring([older]));
        await start(db, createKeyring([newer, older]));
        await assert.rejects(start(db, createKeyring([older])), (error) => {
          assert.ok(error instanceof WrongSecretError);
          assert.match(error.message, /append the newer value to SECRET_KEY after a comma/);
          return true;
        });
        assert.equal((await start(db, createKeyring([older, newer]))).active().kid, first.active().kid);
        assert.equal((await start(db, createKeyring([older]))).active().kid, first.active().kid);
      }));

    test('a fingerprint does not show the secret', () =>
      onDatabase(backend, async (db) => {
        const secret = newSecret();
        await start(db, createKeyring([secret]));
        const { fingerprints } = await readAll(db);
        assert.match(fingerprints[0]?.fingerprint ?? '', /^[0-9a-f]{16}$/);
        assert.equal(fingerprints[0]?.first_seen_at, nowMs);
        assert.equal(JSON.stringify(await readAll(db)).includes(secret), false);
      }));
  });
}

describeOnBackends('the published keys', {}, (system) => {
  test('are the active and the next one, public members only, and may be cached for a while', async () => {
    const reply = await call(system(), { method: 'GET', path: '/.well-known/jwks.json' });
    assert.equal(reply.status, 200);
    assert.equal(reply.headers['cache-control'], 'public, max-age=300');
    const rows = await readKeys(system().deps.db);
    const byKid = (one: { kid: string }, other: { kid: string }) => (one.kid < other.kid ? -1 : 1);
    const stored = rows.map(({ public_jwk }) => JSON.parse(public_jwk));
    assert.deepEqual(reply.body.keys.toSorted(byKid), stored.toSorted(byKid));
    assert.equal(reply.body.keys.length, 2);
    for (const key of reply.body.keys) assert.deepEqual(Object.keys(key).sort(), publicMembers);
  });

  test('verify an access token without asking the service', async () => {
    const user = await registerUser(system());
    const { body } = await call(system(), { method: 'GET', path: '/.well-known/jwks.json' });
    const { payload, protectedHeader } = await jwtVerify(user.accessToken, createLocalJWKSet(body), {
      issuer: 'http://latchkey.test',
      audience: 'http://latchkey.test',
      typ: 'at+jwt',
      algorithms: ['ES256'],
      currentDate: new Date(system().clock.now()),
    });
    assert.equal(payload.sub, user.id);
    assert.equal(protectedHeader.kid, system().deps.signingKeys.active().kid);
  });
});

const publicMembers = ['alg', 'crv', 'kid', 'kty', 'use', 'x', 'y'];

/** What a process does with its secret before it serves. */
async function start(db: Db, keyring: ReturnType<typeof createKeyring>) {
  await checkSecretFingerprint(db, keyring);
  const keys = await loadSigningKeys(db, keyring, () => nowMs, ignore);
  await rememberSecrets(db, keyring, nowMs);
  return keys;
}

function readKeys(db: Db) {
  return db.selectFrom('signing_keys').selectAll().orderBy('state').execute();
}

async function readAll(db: Db) {
  const fingerprints = await db.selectFrom('secret_fingerprints').selectAll().orderBy('fingerprint').execute();
  return { keys: await readKeys(db), fingerprints };
}

async function onDatabase(backend: Backend, check: (db: Db) => Promise<void>): Promise<void> {
  const { environment, remove } = await createScratch(backend);
  const url = environment.DATABASE_URL ?? `sqlite:${join(environment.DATA_DIR ?? '', 'latchkey.db')}`;
  const { db, close } = await openDatabase(url, () => {});
  try {
    await check(db);
  } finally {
    await close();
    await remove();
  }
}

function newKeyring() {
  return createKeyring([newSecret()]);
}

function newSecret(): string {
  return randomBytes(48).toString('base64url');
}
