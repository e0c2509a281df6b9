import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { logIn, newEmail } from '../../test/accounts.ts';
import { foreignVectors } from '../../test/foreign-hashes.ts';
import { importFile, importLines } from '../../test/importing.ts';
import { newSecret } from '../../test/passwords.ts';
import { describeOnBackends, type System, startSystem } from '../../test/system.ts';
import { newId } from '../crypto/ids.ts';
import type { NewUserRow } from '../db/schema.ts';
import { type ExportOptions, exportUsers } from './export-flow.ts';
import { insertImportedUsers, insertUserRoles } from './import-store.ts';

const secret = newSecret();
const hash = foreignVectors[0]?.hash ?? '';
const day = 86_400_000;
const roleSets = [[], ['user'], ['admin', 'user']];

async function exportFile({ deps }: System, options: ExportOptions): Promise<Buffer> {
  const pieces: string[] = [];
  for await (const { text } of exportUsers(deps, options)) pieces.push(text);
  return Buffer.from(pieces.join(''));
}

async function listUsers({ deps }: System) {
  const users = await deps.db.selectFrom('users').selectAll().orderBy('email').execute();
  const roles = await deps.db.selectFrom('user_roles').selectAll().orderBy('user_id').orderBy('role_name').execute();
  return { users, roles };
}

async function removeUsers({ deps }: System): Promise<void> {
  await deps.db.deleteFrom('users').execute();
}

// What a user can be called and can have written into the metadata, awkward for JSON, CSV and spreadsheets alike.
const name = fc
  .tuple(fc.constantFrom('', '=', '+', '-', '@', "'", "'=", '"', ','), fc.string({ unit: 'grapheme', maxLength: 20 }))
  .map(([head, tail]) => `${head}${tail.replaceAll(/[\p{Cc}\u2028\u2029\p{Bidi_Control}]/gu, '')}x`);
const metadata = fc
  .dictionary(fc.string({ maxLength: 8 }), fc.oneof(fc.string({ maxLength: 8 }), fc.integer(), fc.boolean()), {
    maxKeys: 4,
  })
  .map((value) => JSON.stringify(value).replaceAll('\\u0000', '').toWellFormed())
  .filter((json) => !/__proto__|constructor|prototype|\\ud/.test(json) && JSON.stringify(JSON.parse(json)) === json);
const time = fc.integer({ min: 0, max: Date.UTC(2025, 0, 1) });
const user = fc.record({
  name: fc.option(name),
  locale: fc.constantFrom(null, 'en', 'pt-BR', 'zh-Hans-CN'),
  metadata,
  status: fc.constantFrom('active', 'disabled', 'invited'),
  created_at: time,
  updated_at: time,
  last_login_at: fc.option(time),
});

describeOnBackends('an export', { SECRET_KEY: secret }, (system, backend) => {
  for (const format of ['ndjson', 'csv'] as const) {
    test(`of any users, imported into an empty database, makes the same users again (${format})`, async (t) => {
      const other = await startSystem(backend, { SECRET_KEY: secret });
      t.after(() => other.close());
      const own = await system().deps.passwords.hash('correct horse');
      const property = fc.asyncProperty(fc.array(user, { minLength: 2, maxLength: 12 }), async (users) => {
        await Promise.all([removeUsers(system()), removeUsers(other)]);
        const rows = users.map((fields, index) => {
          const head = ['=', '+', '-', '', 'x'][index % 5];
          // Unproved, it has no password: an import would take it away.
          const password_hash = fields.status === 'invited' || index % 3 === 0 ? null : own;
          return { ...fields, id: newId(), email: `${head}${newEmail()}`, password_hash } as NewUserRow;
        });
        const roles = rows.flatMap(({ id }, index) =>
          (roleSets[index % 3] ?? []).map((role) => ({ user_id: id, role_name: role })),
        );
        await insertImportedUsers(system().deps.db, rows);
        await insertUserRoles(system().deps.db, roles);
        const file = await exportFile(system(), { format, withHashes: true });
        const outcome = await importFile(other, [file], { format, addressesAreProved: false, allowedRoles: ['admin'] });
        assert.deepEqual([outcome.imported, outcome.refusals], [users.length, []]);
        assert.deepEqual(await listUsers(other), await listUsers(system()));
      });
      await fc.assert(property, { numRuns: 12 });
    });
  }

  test('has hashes only where they were asked for, which work where SECRET_KEY is the same', async (t) => {
    await removeUsers(system());
    const [used, unused] = [newEmail(), newEmail()];
    await importLines(
      system(),
      [used, unused].map((email) => ({ email, password_hash: hash })),
    );
    assert.equal((await logIn(system(), used, 'correct horse')).status, 200);
    const without = await exportFile(system(), { format: 'ndjson', withHashes: false });
    assert.doesNotMatch(without.toString(), /hash|lk1:|foreign:|\$2b\$/);
    const file = await exportFile(system(), { format: 'ndjson', withHashes: true });
    assert.doesNotMatch(file.toString(), /"\$2b\$/, 'nothing that could be guessed at without SECRET_KEY');

    const [same, foreign] = await Promise.all([
      startSystem(backend, { SECRET_KEY: secret }),
      startSystem(backend, { SECRET_KEY: newSecret() }),
    ]);
    t.after(() => Promise.all([same.close(), foreign.close()]));
    assert.equal((await importFile(same, [file])).imported, 2);
    for (const email of [used, unused]) assert.equal((await logIn(same, email, 'correct horse')).status, 200);
    assert.deepEqual((await importFile(foreign, [file])).reasons, { hash_other_secret: 2 });
    assert.equal((await importFile(foreign, [without])).withoutPassword, 2);
  });

  test('is written down as an event before the first user is read', async () => {
    const { db } = system().deps;
    const list = () => db.selectFrom('audit_events').selectAll().where('type', '=', 'users.exported').execute();
    const known = new Set((await list()).map(({ id }) => id));
    const pieces = exportUsers(system().deps, { format: 'csv', withHashes: true });
    await pieces.next();
    await pieces.return(undefined);
    const [event] = (await list()).filter(({ id }) => !known.has(id));
    assert.deepEqual([event?.user_id, event?.details], [null, '{"with_hashes":true}']);
  });

  test('has every user once, over many reads', async () => {
    await removeUsers(system());
    const at = system().clock.now() - day;
    const lines = Array.from({ length: 1_234 }, () => ({ email: newEmail(), created_at: new Date(at).toISOString() }));
    await importLines(system(), lines);
    const file = await exportFile(system(), { format: 'ndjson', withHashes: false });
    const emails = file
      .toString()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).email);
    assert.deepEqual(emails.toSorted(), lines.map(({ email }) => email).toSorted());
  });
});
