import assert from 'node:assert/strict';
import { test } from 'node:test';
import { goodPassword, logIn, newEmail, registerUser } from '../../test/accounts.ts';
import { takeStock } from '../../test/client.ts';
import { firebaseParameters, firebaseVector, foreignVectors } from '../../test/foreign-hashes.ts';
import { importLines } from '../../test/importing.ts';
import { describeOnBackends, digestRows, type System } from '../../test/system.ts';
import { readFirebaseParameters } from '../crypto/firebase-hash.ts';
import { newId } from '../crypto/ids.ts';
import { ImportStoppedError } from './import-reasons.ts';

const [bcryptVector, , , passlibVector] = foreignVectors;
const hash = bcryptVector?.hash ?? '';
const otherHash = passlibVector?.hash ?? '';
const password = 'correct horse';

function findUser({ deps }: System, email: string) {
  return deps.db.selectFrom('users').selectAll().where('email', '=', email).executeTakeFirstOrThrow();
}

async function rolesOf({ deps }: System, userId: string): Promise<string[]> {
  const rows = await deps.db.selectFrom('user_roles').select('role_name').where('user_id', '=', userId).execute();
  return rows.map((row) => row.role_name).sort();
}

function listImportEvents({ deps }: System) {
  return deps.db.selectFrom('audit_events').selectAll().where('type', '=', 'users.imported').execute();
}

describeOnBackends('an imported user', {}, (system) => {
  test('has what the line says', async () => {
    const [email, id] = [newEmail(), '3f2b8c1e-9d4a-4c6b-8e2f-1a2b3c4d5e6f'];
    const line = {
      id: id.toUpperCase(),
      email: email.toUpperCase().replace('EXAMPLE.COM', 'example.com'),
      name: 'Ada Łoś 🦉',
      locale: 'pt-br',
      metadata: { plan: 'pro', seats: 3 },
      status: 'disabled',
      roles: [],
      created_at: '2019-03-01T12:00:00Z',
      updated_at: '2020-03-01 12:00:00.123456+00',
      last_login_at: '2021-03-01 12:00:00+01:30',
      password_hash: hash,
    };
    const { imported, refused } = await importLines(system(), [line]);
    assert.deepEqual([imported, refused], [1, 0]);
    const { password_hash: stored, ...row } = await findUser(system(), email);
    assert.deepEqual(row, {
      id,
      email,
      name: 'Ada Łoś 🦉',
      locale: 'pt-BR',
      metadata: '{"plan":"pro","seats":3}',
      status: 'disabled',
      created_at: Date.UTC(2019, 2, 1, 12),
      updated_at: Date.UTC(2020, 2, 1, 12, 0, 0, 123),
      last_login_at: Date.UTC(2021, 2, 1, 10, 30),
      proofs_valid_from: 0,
    });
    assert.match(stored ?? '', /^foreign:v1\./);
    assert.deepEqual(await rolesOf(system(), id), []);
  });

  test('with an address alone is active, has the role user, the time of the import and no password', async () => {
    const email = newEmail();
    const line = { email, name: '', metadata: null, password_hash: '' };
    assert.equal((await importLines(system(), [line])).withoutPassword, 1);
    const { id, created_at, status, name, metadata, password_hash } = await findUser(system(), email);
    assert.deepEqual([status, name, metadata, password_hash], ['active', null, '{}', null]);
    assert.equal(created_at, system().clock.now());
    assert.deepEqual(await rolesOf(system(), id), ['user']);
  });

  for (const { system: name, password: theirs, hash: given } of [...foreignVectors, firebaseVector]) {
    test(`logs in with the password from ${name}, and the hash is ours from then on`, async () => {
      const email = newEmail();
      const firebase = readFirebaseParameters(firebaseParameters);
      await importLines(system(), [{ email, password_hash: given }], { firebase });
      assert.equal((await logIn(system(), email, `${theirs}!`)).status, 401);
      assert.match((await findUser(system(), email)).password_hash ?? '', /^foreign:/);
      assert.equal((await logIn(system(), email, theirs)).status, 200);
      const { password_hash: replaced } = await findUser(system(), email);
      assert.match(replaced ?? '', /^lk1:/);
      assert.equal((await logIn(system(), email, theirs)).status, 200);
      assert.equal((await findUser(system(), email)).password_hash, replaced);
      assert.equal((await logIn(system(), email, `${theirs}!`)).status, 401);
    });
  }

  test('types the password as in the old system, and in any spelling once the hash is ours', async () => {
    const email = newEmail();
    const { password: theirs = '', hash: given } = foreignVectors.find(({ system }) => system === 'bcrypt 2y') ?? {};
    const decomposed = theirs.normalize('NFD');
    assert.notEqual(decomposed, theirs);
    await importLines(system(), [{ email, password_hash: given }]);
    assert.equal((await logIn(system(), email, decomposed)).status, 401);
    assert.equal((await logIn(system(), email, theirs)).status, 200);
    assert.equal((await logIn(system(), email, decomposed)).status, 200);
  });

  test('whose address was never proved is invited, and the password that a stranger may have chosen is left out', async () => {
    const emails = [newEmail(), newEmail(), newEmail()];
    const lines = [
      { email: emails[0], email_verified: false, password_hash: hash },
      { email: emails[1], status: 'invited', password_hash: hash },
      { email: emails[2], status: 'disabled', email_verified: false, password_hash: 'of no known format' },
    ];
    const outcome = await importLines(system(), lines.slice(0, 2));
    assert.deepEqual([outcome.imported, outcome.invited, outcome.passwordsLeftOut], [2, 2, 2]);
    const malformed = await importLines(system(), lines.slice(2));
    assert.equal(malformed.refusals[0]?.reason, 'invalid_field');
    const good = [{ ...lines[2], password_hash: hash }];
    assert.deepEqual((await importLines(system(), good)).passwordsLeftOut, 1);
    const users = await Promise.all(emails.map((email) => findUser(system(), email)));
    assert.deepEqual(
      users.map(({ status, password_hash }) => [status, password_hash]),
      [
        ['invited', null],
        ['invited', null],
        ['disabled', null],
      ],
    );
    for (const email of emails) assert.equal((await logIn(system(), email, password)).status, 401);
  });

  test('has proved the address where the line says so, without the operator vouching', async () => {
    const email = newEmail();
    const outcome = await importLines(system(), [{ email, email_verified: true }], { addressesAreProved: false });
    assert.equal(outcome.imported, 1);
    assert.equal((await findUser(system(), email)).status, 'active');
  });

  test('that Django has without a usable password has none', async () => {
    const email = newEmail();
    const outcome = await importLines(system(), [
      { email, password_hash: '!F5zgxSGABEudn9On1u0HhpF4ogzpnD8PT9lTe8wM' },
    ]);
    assert.deepEqual([outcome.withoutPassword, outcome.passwordsLeftOut], [1, 0]);
    assert.equal((await findUser(system(), email)).password_hash, null);
  });

  test('with a hash that cannot be checked is imported without it where the operator says so', async () => {
    const email = newEmail();
    const line = { email, password_hash: '5f4dcc3b5aa765d61d8327deb882cf99' };
    const outcome = await importLines(system(), [line], { dropUnusableHashes: true });
    assert.deepEqual([outcome.imported, outcome.withoutPassword, outcome.passwordsLeftOut], [1, 1, 1]);
    const firebase = await importLines(system(), [{ email: newEmail(), password_hash: firebaseVector.hash }], {
      dropUnusableHashes: true,
    });
    assert.deepEqual(firebase.reasons, { hash_needs_firebase_parameters: 1 });
  });

  test('gets a role with permissions only where the operator names it', async () => {
    const { db } = system().deps;
    const [editor, reader] = [`editor-${newId()}`, `reader-${newId()}`];
    await db
      .insertInto('roles')
      .values({ name: editor, description: '', permissions: '["a"]', created_at: 0 })
      .execute();
    await db.insertInto('roles').values({ name: reader, description: '', permissions: '[]', created_at: 0 }).execute();
    const lines = ['admin', editor, reader].map((role) => ({ email: newEmail(), roles: [role, 'user'] }));
    assert.deepEqual(
      (await importLines(system(), lines)).refusals.map(({ line, reason, detail }) => [line, reason, detail]),
      [
        [1, 'role_not_allowed', 'admin'],
        [2, 'role_not_allowed', editor],
      ],
    );
    await importLines(system(), lines, { allowedRoles: ['admin', editor] });
    const found = await Promise.all(
      lines.map(async ({ email }) => rolesOf(system(), (await findUser(system(), email)).id)),
    );
    assert.deepEqual(found, [['admin', 'user'], [editor, 'user'].sort(), [reader, 'user'].sort()]);
    await db.updateTable('roles').set({ permissions: '[]' }).where('name', '=', 'admin').execute();
    const again = await importLines(system(), [{ email: newEmail(), roles: ['admin'] }]);
    assert.deepEqual(again.reasons, { role_not_allowed: 1 }, 'admin is never like any other role');
    await assert.rejects(importLines(system(), [], { allowedRoles: ['nobody'] }), ImportStoppedError);
  });

  test('is told nothing by mail and has no session, and one event says how many were imported', async () => {
    const before = await takeStock(system());
    const events = await listImportEvents(system());
    const lines = Array.from({ length: 3 }, () => ({ email: newEmail(), password_hash: hash }));
    await importLines(system(), lines);
    const { users = 0, user_roles = 0, audit_events = 0 } = before;
    const changed = { users: users + 3, user_roles: user_roles + 3, audit_events: audit_events + 1 };
    assert.deepEqual(await takeStock(system()), { ...before, ...changed });
    const known = new Set(events.map(({ id }) => id));
    const [event] = (await listImportEvents(system())).filter(({ id }) => !known.has(id));
    const { run, ...details } = JSON.parse(event?.details ?? '{}');
    assert.deepEqual([event?.user_id, details], [null, { imported: 3, updated: 0 }]);
    assert.match(run, /^[0-9a-f-]{36}$/);
  });
});

describeOnBackends('an import', {}, (system) => {
  test('given again leaves everything as it is', async () => {
    const lines = Array.from({ length: 30 }, () => ({ email: newEmail(), password_hash: hash, name: 'Ada' }));
    assert.equal((await importLines(system(), lines)).imported, 30);
    const [digest, stock] = [await digestRows(system()), await takeStock(system())];
    for (const update of [false, true]) {
      const { imported, alreadyThere, updated, passwordsKept } = await importLines(system(), lines, { update });
      assert.deepEqual([imported, alreadyThere, updated, passwordsKept], [0, 30, 0, 0]);
    }
    assert.equal(await digestRows(system()), digest);
    assert.deepEqual(await takeStock(system()), stock);
  });

  test('leaves an account alone whose owner registered here, whatever the file says of it', async () => {
    const user = await registerUser(system(), { name: 'Mine' });
    const digest = await digestRows(system());
    const line = { email: user.email, name: 'Theirs', password_hash: hash, status: 'disabled', roles: ['admin'] };
    const outcome = await importLines(system(), [line], { allowedRoles: ['admin'] });
    assert.deepEqual([outcome.imported, outcome.alreadyThere], [0, 1]);
    assert.equal(await digestRows(system()), digest);
  });

  test('as an update changes the profile, and the password while nobody has logged in with it, and nothing else', async () => {
    const email = newEmail();
    await importLines(system(), [{ email, name: 'Old', locale: 'en', metadata: { a: 1 }, password_hash: hash }]);
    const before = await findUser(system(), email);
    const change = { email, name: 'New', password_hash: otherHash, status: 'disabled', roles: [], id: newId() };
    assert.equal((await importLines(system(), [change], { update: true })).updated, 1);
    const after = await findUser(system(), email);
    assert.deepEqual(
      { ...after, name: null, password_hash: null, updated_at: 0 },
      { ...before, name: null, password_hash: null, updated_at: 0 },
    );
    assert.equal(after.name, 'New');
    assert.notEqual(after.password_hash, before.password_hash);
    assert.deepEqual(await rolesOf(system(), after.id), ['user']);
    assert.equal((await logIn(system(), email, password)).status, 200);
  });

  test('as an update keeps a password that is newer than the file, and the lack of one', async () => {
    const user = await registerUser(system());
    const coded = newEmail();
    await importLines(system(), [{ email: coded }]);
    const lines = [user.email, coded].map((email) => ({ email, name: 'New', password_hash: hash }));
    const { updated, passwordsKept } = await importLines(system(), lines, { update: true });
    assert.deepEqual([updated, passwordsKept], [2, 2]);
    assert.equal((await logIn(system(), user.email, goodPassword)).status, 200);
    for (const email of [user.email, coded]) assert.equal((await logIn(system(), email, password)).status, 401);
  });

  test('refuses the second line of an address or an id, and takes the first that is good', async () => {
    const [email, other, id] = [newEmail(), newEmail(), newId()];
    const lines = [
      { email, status: 'asleep' },
      { email, id },
      { email: email.replace('user', 'USER') },
      { email: other, id },
      { email: other },
    ];
    const { imported, refusals } = await importLines(system(), lines);
    assert.equal(imported, 2);
    assert.deepEqual(
      refusals.map(({ line, reason }) => [line, reason]),
      [
        [1, 'invalid_field'],
        [3, 'duplicate_in_file'],
        [4, 'duplicate_in_file'],
      ],
    );
  });

  test('refuses an id that another account has', async () => {
    const user = await registerUser(system());
    const line = { email: newEmail(), id: user.id };
    for (const isDryRun of [true, false]) {
      const { refusals } = await importLines(system(), [line], { isDryRun });
      assert.deepEqual(refusals, [{ line: 1, reason: 'id_in_use', email: line.email }]);
    }
    const same = await importLines(system(), [{ email: user.email, id: user.id }]);
    assert.deepEqual([same.alreadyThere, same.refused], [1, 0]);
  });

  test('as a rehearsal says what the import will say, and writes nothing', async () => {
    const user = await registerUser(system());
    const lines = [
      ...Array.from({ length: 20 }, () => ({ email: newEmail(), password_hash: hash, email_verified: false })),
      { email: user.email, name: 'Another' },
      { email: newEmail(), roles: ['nobody'] },
      { email: newEmail(), id: user.id },
    ];
    const [digest, stock] = [await digestRows(system()), await takeStock(system())];
    const rehearsal = await importLines(system(), lines, { isDryRun: true, update: true });
    assert.equal(await digestRows(system()), digest);
    assert.deepEqual(await takeStock(system()), stock);
    assert.deepEqual(await importLines(system(), lines, { update: true }), rehearsal);
  });

  test('beside another of the same file adds everybody once', async () => {
    const lines = Array.from({ length: 1_200 }, () => ({ email: newEmail(), password_hash: hash }));
    const outcomes = await Promise.all([lines, lines.toReversed(), lines].map((part) => importLines(system(), part)));
    const total = outcomes.reduce((sum, { imported }) => sum + imported, 0);
    assert.equal(total, 1_200);
    for (const { imported, alreadyThere, refused } of outcomes)
      assert.deepEqual([imported + alreadyThere, refused], [1_200, 0]);
    const ids = await Promise.all(lines.slice(0, 50).map(async ({ email }) => (await findUser(system(), email)).id));
    for (const id of ids) assert.deepEqual(await rolesOf(system(), id), ['user']);
  });
});
