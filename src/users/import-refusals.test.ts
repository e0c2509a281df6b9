import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newEmail } from '../../test/accounts.ts';
import { takeStock } from '../../test/client.ts';
import { firebaseVector } from '../../test/foreign-hashes.ts';
import { importFile } from '../../test/importing.ts';
import { describeOnBackends, digestRows } from '../../test/system.ts';
import type { ImportOptions } from './import-flow.ts';
import { type ImportReason, ImportStoppedError, importReasons } from './import-reasons.ts';

type Case = {
  text: string | Buffer;
  reason: ImportReason;
  detail?: RegExp;
  options?: Partial<ImportOptions>;
};

const csv = { format: 'csv' } as const;
const deep = `${'{"a":'.repeat(16)}1${'}'.repeat(16)}`;
const line = (fields: object) => JSON.stringify({ email: 'ada@example.com', ...fields });
const salt = 'MDEyMzQ1Njc4OWFiY2RlZg';
const sum = '/jx4uMnBLEcnyBJyK5rKAfmnFbwMBoBPE5YY+OEpHOo';

// Every reason, however it comes about. A line is what a user of another system could have made it.
const cases: Case[] = [
  { text: `{"email":"ada@example.com","name":"${'x'.repeat(70_000)}"}`, reason: 'line_too_long' },
  { text: line({ roles: Array.from({ length: 1_000_000 }, (_, index) => `role ${index}`) }), reason: 'line_too_long' },
  { text: `email,name\nada@example.com,${'x'.repeat(70_000)}`, reason: 'line_too_long', options: csv },
  { text: `email,name\nada@example.com,"${'x\n'.repeat(40_000)}"`, reason: 'line_too_long', options: csv },
  { text: Buffer.from([...Buffer.from('{"email":"ada@example.com","name":"'), 0xff, 0x22, 0x7d]), reason: 'not_utf8' },
  { text: Buffer.from([0xff, 0xfe, 0x7b, 0x00]), reason: 'not_utf8' },
  { text: Buffer.from([...Buffer.from('email,name\nada@example.com,'), 0xc3]), reason: 'not_utf8', options: csv },
  { text: 'nonsense', reason: 'malformed_json', detail: /is not JSON/ },
  { text: '{"email":"ada@example.com"', reason: 'malformed_json' },
  { text: '["ada@example.com"]', reason: 'malformed_json' },
  { text: 'null', reason: 'malformed_json' },
  { text: '{"email":"ada@example.com","email":"eve@example.com"}', reason: 'malformed_json', detail: /twice/ },
  { text: '{"email":"ada@example.com","__proto__":{"status":"active"}}', reason: 'malformed_json' },
  { text: `{"email":"ada@example.com","metadata":${deep}}`, reason: 'malformed_json', detail: /deeply/ },
  { text: `{"email":"ada@example.com","metadata":${'['.repeat(60_000)}`, reason: 'malformed_json' },
  {
    text: `{"email":"ada@example.com","metadata":${'['.repeat(30_000)}${']'.repeat(30_000)}}`,
    reason: 'malformed_json',
  },
  { text: line({ name: 'a\0b' }), reason: 'malformed_json', detail: /^\/name must not hold NUL/ },
  { text: line({ metadata: { half: '\ud800' } }), reason: 'malformed_json', detail: /surrogates/ },
  { text: '{"email":"ada@example.com","metadata":{"n":1e999}}', reason: 'malformed_json' },
  { text: 'email,name\nada@example.com,a"b', reason: 'malformed_csv', options: csv },
  { text: 'email,name\nada@example.com,"a"b', reason: 'malformed_csv', options: csv },
  { text: 'email,name\nada@example.com,"open', reason: 'malformed_csv', options: csv },
  { text: 'email,name\nada@example.com', reason: 'wrong_cell_count', options: csv },
  { text: 'email,name\nada@example.com,a,b', reason: 'wrong_cell_count', options: csv },
  { text: line({ is_admin: true }), reason: 'unknown_field', detail: /^is_admin$/ },
  { text: line({ constructor_: 1, proofs_valid_from: 1 }), reason: 'unknown_field' },
  { text: line({ password: 'correct horse' }), reason: 'plain_password' },
  { text: '{"name":"Ada"}', reason: 'invalid_field', detail: /^email is required$/ },
  { text: line({ email: 7 }), reason: 'invalid_field', detail: /^email must be string$/ },
  { text: line({ email: null }), reason: 'invalid_field', detail: /^email is required$/ },
  { text: line({ name: 'x'.repeat(201) }), reason: 'invalid_field', detail: /^name / },
  { text: line({ name: 'a\nb' }), reason: 'invalid_field', detail: /^name / },
  { text: line({ name: '\u202eevil' }), reason: 'invalid_field', detail: /^name / },
  { text: line({ locale: 'not a tag' }), reason: 'invalid_field', detail: /^locale / },
  { text: line({ locale: 'en_US' }), reason: 'invalid_field', detail: /^locale / },
  { text: line({ locale: 'xx-a' }), reason: 'invalid_field', detail: /^locale must be a language tag/ },
  { text: line({ metadata: 'text' }), reason: 'invalid_field', detail: /^metadata must be object$/ },
  { text: line({ metadata: [] }), reason: 'invalid_field', detail: /^metadata / },
  {
    text: line({ metadata: { text: 'x'.repeat(8_200) } }),
    reason: 'invalid_field',
    detail: /^metadata must be at most/,
  },
  {
    text: 'email,metadata\nada@example.com,{',
    reason: 'invalid_field',
    detail: /^metadata is not JSON$/,
    options: csv,
  },
  { text: line({ status: 'asleep' }), reason: 'invalid_field', detail: /^status / },
  { text: line({ status: 'invited', email_verified: true }), reason: 'invalid_field', detail: /contradicts/ },
  { text: line({ email_verified: 'maybe' }), reason: 'invalid_field', detail: /^email_verified must be boolean$/ },
  { text: 'email,email_verified\nada@example.com,maybe', reason: 'invalid_field', options: csv },
  { text: line({ roles: Array(51).fill('user') }), reason: 'invalid_field', detail: /^roles / },
  { text: line({ roles: ['user', 'user'] }), reason: 'invalid_field', detail: /^roles / },
  { text: line({ roles: 'user' }), reason: 'invalid_field', detail: /^roles / },
  { text: line({ id: 42 }), reason: 'invalid_field', detail: /^id / },
  { text: line({ id: '0' }), reason: 'invalid_field', detail: /^id / },
  { text: line({ id: '00000000-0000-0000-0000-000000000000' }), reason: 'invalid_field', detail: /^id / },
  { text: line({ created_at: 1_500_000_000 }), reason: 'invalid_field', detail: /^created_at / },
  { text: line({ created_at: '2024-01-01' }), reason: 'invalid_field', detail: /^created_at / },
  { text: line({ created_at: '2024-01-01T00:00:00' }), reason: 'invalid_field', detail: /^created_at / },
  { text: line({ created_at: '2024-02-30T00:00:00Z' }), reason: 'invalid_field', detail: /^created_at is no time/ },
  { text: line({ created_at: '1969-12-31T23:59:59Z' }), reason: 'invalid_field', detail: /^created_at is no time/ },
  {
    text: line({ last_login_at: '2999-01-01T00:00:00Z' }),
    reason: 'invalid_field',
    detail: /^last_login_at .+ future$/,
  },
  { text: line({ updated_at: '2024-01-01T24:61:00Z' }), reason: 'invalid_field', detail: /^updated_at / },
  { text: line({ password_hash: 'x'.repeat(1_025) }), reason: 'invalid_field', detail: /^password_hash / },
  { text: line({ password_hash: 'a hash' }), reason: 'invalid_field', detail: /^password_hash / },
  { text: line({ email: 'no address' }), reason: 'invalid_email' },
  { text: line({ email: '"quoted"@example.com' }), reason: 'invalid_email' },
  { text: line({ email: 'ada@ex\u212ample.com' }), reason: 'invalid_email' },
  { text: line({}), reason: 'address_not_proved', options: { addressesAreProved: false } },
  { text: line({ status: 'disabled' }), reason: 'address_not_proved', options: { addressesAreProved: false } },
  { text: line({ roles: ['nobody'] }), reason: 'unknown_role', detail: /^nobody$/ },
  { text: line({ roles: ['user', 'admin'] }), reason: 'role_not_allowed', detail: /^admin$/ },
  { text: 'email,roles\nada@example.com,user|admin', reason: 'role_not_allowed', options: csv },
  { text: line({ password_hash: '5f4dcc3b5aa765d61d8327deb882cf99' }), reason: 'hash_unknown_format' },
  { text: line({ password_hash: `$argon2id$v=19$m=4294967295,t=9,p=1$${salt}$${sum}` }), reason: 'hash_too_costly' },
  { text: line({ password_hash: `$scrypt$ln=30,r=8,p=1$${salt}$${sum}` }), reason: 'hash_too_costly' },
  { text: line({ password_hash: `$pbkdf2-sha256$1000$${salt}$AAAA` }), reason: 'hash_too_short' },
  { text: line({ password_hash: `lk1:0123456789abcdef:$2b$05$${'a'.repeat(53)}` }), reason: 'hash_other_secret' },
  { text: line({ password_hash: firebaseVector.hash }), reason: 'hash_needs_firebase_parameters' },
];

describeOnBackends('a line that is refused', {}, (system) => {
  test('says why, is not imported, and changes nothing', async () => {
    const [digest, stock] = [await digestRows(system()), await takeStock(system())];
    for (const { text, reason, detail = /^/, options = {} } of cases) {
      const { imported, refused, reasons, refusals } = await importFile(system(), [text], options);
      const shown = text.toString().slice(0, 80);
      assert.deepEqual([imported, refused, reasons], [0, 1, { [reason]: 1 }], shown);
      assert.equal(refusals[0]?.line, options.format === 'csv' ? 2 : 1, shown);
      assert.match(refusals[0]?.detail ?? '', detail, shown);
    }
    assert.equal(await digestRows(system()), digest);
    assert.deepEqual(await takeStock(system()), stock);
  });

  test('costs none of the lines beside it', async () => {
    const texts = cases.filter(({ options }) => options === undefined).map(({ text }) => Buffer.from(text));
    const pieces = texts.flatMap((text) => [text, `\n{"email":"${newEmail()}"}\n`]);
    const { lines, imported, refused } = await importFile(system(), pieces);
    assert.deepEqual([lines, imported, refused], [2 * texts.length, texts.length, texts.length]);
  });

  test('is shown for every reason there is', () => {
    const elsewhere: ImportReason[] = ['duplicate_in_file', 'id_in_use'];
    const shown = new Set([...cases.map(({ reason }) => reason), ...elsewhere]);
    assert.deepEqual(Object.keys(importReasons).sort(), [...shown].sort());
  });
});

describeOnBackends('a file that is refused as a whole', {}, (system) => {
  const headers: [string, RegExp][] = [
    ['name,locale', /^The header names no column email\.$/],
    ['email,name,email', /^The header names the column "email" twice\.$/],
    ['email,password', /^The file has a column password\. Only hashes/],
    ['email,shoe_size,"x\u0007"', /^The header names columns that are not known: "shoe_size", "x\\u0007"\. /],
    ['email,"name', /^The header of the file cannot be read\.$/],
    [`email,${'x'.repeat(70_000)}`, /^The header of the file cannot be read\.$/],
  ];

  test('says what is wrong with its header, and nothing of it is imported', async () => {
    const digest = await digestRows(system());
    for (const [header, message] of headers) {
      const pieces = [`${header}\n${newEmail()},x\n`];
      await assert.rejects(importFile(system(), pieces, csv), (error) => {
        assert.ok(error instanceof ImportStoppedError);
        assert.match(error.message, message);
        return true;
      });
    }
    assert.equal(await digestRows(system()), digest);
  });

  test('is one without the option that leaves unknown fields out', async () => {
    const [first, second] = [newEmail(), newEmail()];
    const options = { ignoreUnknown: true };
    const rows = `email,shoe_size\n${first},47\n`;
    assert.equal((await importFile(system(), [rows], { ...options, ...csv })).imported, 1);
    const lines = `{"email":"${second}","shoe_size":47,"password":"x"}\n`;
    assert.equal((await importFile(system(), [lines], options)).imported, 1);
  });

  test('holds nothing, and is no fault', async () => {
    for (const text of ['', '\n\n', '\ufeff', 'email\n']) {
      const { lines, imported } = await importFile(system(), [text], text === 'email\n' ? csv : {});
      assert.deepEqual([lines, imported], [0, 0]);
    }
  });
});
