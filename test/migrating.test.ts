import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { copyFileSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { logIn } from './accounts.ts';
import { onPostgres } from './copying.ts';
import { firebaseParameters, firebaseVector, foreignVectors } from './foreign-hashes.ts';
import { importFile, importLines } from './importing.ts';
import { post, startProgram } from './program.ts';
import { findPython } from './python.ts';
import { inScratch } from './scratch.ts';
import { backends, createScratch, startSystem } from './system.ts';

const run = promisify(execFile);
const root = join(import.meta.dirname, '..');
const fixture = (name: string) => join(root, 'test/fixtures', name);
const python = findPython();
const people: [string, string][] = [
  ['ada@example.com', 'correct horse battery staple'],
  ['grace@example.com', 'gr\u00fc\u00dfe aus K\u00f6ln'],
  ['alan@example.com', 'x'.repeat(80)],
];

/** The code blocks of a section of the page, in their order. */
function readBlocks(title: string, language: string): string[] {
  const page = readFileSync(join(root, 'docs/migrating.md'), 'utf8');
  const section = page.split(`\n## ${title}\n`)[1]?.split('\n## ')[0] ?? '';
  const blocks = [...section.matchAll(/```(\w+)\n([\s\S]*?)```/g)].filter(([, found]) => found === language);
  assert.ok(blocks.length > 0, `the page has no ${language} under ${title}`);
  return blocks.map(([, , text = '']) => text);
}

function hashOf(system: string): string {
  const hash = foreignVectors.find((vector) => vector.system === system)?.hash;
  assert.ok(hash, `there is no hash of ${system}`);
  return hash;
}

test('the walk from FastAPI can be pasted, and ends with everybody logged in', () =>
  inScratch(async (environment) => {
    const folder = environment.DATA_DIR;
    const database = new DatabaseSync(join(folder, 'app.db'));
    database.exec(readFileSync(fixture('fastapi-users.sql'), 'utf8'));
    const [toFile, toLatchkey, toLogin, toIds] = readBlocks('From FastAPI with passlib', 'sh');
    assert.ok(toFile && toLatchkey && toLogin && toIds);
    const program = await startProgram({ ...environment, HOST: 'localhost' });
    // npm looks for its package in the folder that it is run in.
    for (const name of ['package.json', 'src', 'node_modules']) symlinkSync(join(root, name), join(folder, name));
    const bin = [join(root, 'node_modules/.bin'), process.env.PATH].join(':');
    const paste = (text: string) => {
      const env = { ...environment, PATH: bin, HOME: folder, BCRYPT_COST: '4' };
      const command = text.replace('localhost:8000', `localhost:${program.port}`).replaceAll('python3 ', `${python} `);
      return run('bash', ['-euo', 'pipefail', '-c', command], { cwd: folder, env });
    };
    try {
      if (python === undefined) copyFileSync(fixture('fastapi-users.ndjson'), join(folder, 'users.ndjson'));
      else await paste(toFile);
      const file = readFileSync(join(folder, 'users.ndjson'), 'utf8');
      assert.equal(file, readFileSync(fixture('fastapi-users.ndjson'), 'utf8'));

      const { stdout } = await paste(toLatchkey);
      assert.match(stdout, /4 would be imported[\s\S]+nothing was written[\s\S]+4 imported/);
      const login = await paste(toLogin);
      assert.equal(JSON.parse(login.stdout).user.name, 'Ada Lovelace');
      const subjects = new Map<string, string>();
      for (const [email, password] of people) {
        const { status, body } = await post(program, '/auth/login', { email, password });
        assert.equal(status, 200, email);
        subjects.set(email, body.user.id);
      }
      const former = { email: 'former@example.com', password: 'an old password' };
      assert.equal((await post(program, '/auth/login', former)).status, 401);

      if (python === undefined) return;
      await paste(toIds);
      const rows = database.prepare('select email, auth_id from users where is_active').all();
      const written = rows.map(({ email, auth_id }) => [String(email).toLowerCase(), auth_id]);
      assert.deepEqual(new Map(written as [string, string][]), subjects);
    } finally {
      database.close();
      await program.stop('SIGTERM');
    }
  }));

test('what passlib makes now, of each of its schemes, is imported and logs in', {
  skip: python === undefined,
}, async (t) => {
  const script = `
import json, warnings
warnings.filterwarnings("ignore")
from passlib import hash
made = {
    "bcrypt": hash.bcrypt.using(rounds=5),
    "bcrypt_sha256": hash.bcrypt_sha256.using(rounds=5),
    "bcrypt_sha256-1": hash.bcrypt_sha256.using(rounds=5, version=1),
    "argon2": hash.argon2.using(memory_cost=512, rounds=2),
    "scrypt": hash.scrypt.using(rounds=10),
    "pbkdf2_sha1": hash.pbkdf2_sha1.using(rounds=100),
    "pbkdf2_sha256": hash.pbkdf2_sha256.using(rounds=100),
    "pbkdf2_sha512": hash.pbkdf2_sha512.using(rounds=100),
    "django_pbkdf2_sha256": hash.django_pbkdf2_sha256.using(rounds=100),
    "django_bcrypt_sha256": hash.django_bcrypt_sha256.using(rounds=5),
}
for name, scheme in made.items():
    for number, password in enumerate(["correct horse", "gr\\u00fc\\u00dfe \\U0001f989", "x" * 100]):
        email = f"{name}.{number}@example.com"
        print(json.dumps({"email": email, "password_hash": scheme.hash(password), "metadata": {"password": password}}))
`;
  const { stdout } = await run(python ?? '', ['-c', script]);
  const lines = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  const system = await startSystem('sqlite+memory');
  t.after(() => system.close());
  assert.equal((await importLines(system, lines)).imported, 30);
  for (const { email, metadata } of lines) {
    assert.equal((await logIn(system, email, `${metadata.password[0]}!`)).status, 401, email);
    assert.equal((await logIn(system, email, metadata.password)).status, 200, email);
  }
});

test('the walk from Firebase makes a file of what it exports, and its user logs in', () =>
  inScratch(async (environment) => {
    const folder = environment.DATA_DIR;
    const [, , salt, passwordHash] = firebaseVector.hash.split('$');
    const user = { localId: 'a', email: 'ada@example.com', emailVerified: true, createdAt: '1700000000000' };
    const others = [
      { localId: 'b', phoneNumber: '+15550100' },
      { localId: 'c', email: 'eve@example.com', disabled: true },
    ];
    writeFileSync(
      join(folder, 'firebase.json'),
      JSON.stringify({ users: [{ ...user, salt, passwordHash }, ...others] }),
    );
    writeFileSync(join(folder, 'parameters.txt'), firebaseParameters);
    for (const name of ['package.json', 'src', 'node_modules']) symlinkSync(join(root, name), join(folder, name));
    const [walk = ''] = readBlocks('From Firebase', 'sh');
    const PATH = [join(root, 'node_modules/.bin'), process.env.PATH].join(':');
    const { stdout } = await run('bash', ['-euo', 'pipefail', '-c', walk], {
      cwd: folder,
      env: { ...environment, PATH, HOME: folder },
    });
    assert.match(stdout, /2 would be imported[\s\S]+2 imported/);
    const program = await startProgram(environment);
    const login = await post(program, '/auth/login', { email: user.email, password: firebaseVector.password });
    await program.stop('SIGTERM');
    assert.equal(login.body.user.created_at, '2023-11-14T22:13:20.000Z');
  }));

// What each system has in its own tables, in as much as its query reads of them.
const [keycloakSalt, keycloakValue] = hashOf('PBKDF2-SHA-256').replaceAll('.', '+').split('$').slice(-2);
const [argonSalt, argonValue] = hashOf('argon2id').split('$').slice(-2);
const origins: { title: string; tables: string; emails: string[] }[] = [
  {
    title: 'From Django',
    tables: `create table auth_user (email text, password text, first_name text, last_name text, is_active boolean,
        date_joined timestamptz, last_login timestamptz);
      insert into auth_user values ('ada@example.com', '${hashOf('Django PBKDF2-SHA-256')}', 'Ada', 'Lovelace', true, now(), null),
        ('alan@example.com', '${hashOf('Django argon2')}', '', '', true, now(), now()), ('', '!', '', '', true, now(), now())`,
    emails: ['ada@example.com', 'alan@example.com'],
  },
  {
    title: 'From Supabase or GoTrue',
    tables: `create schema auth;
      create table auth.users (id uuid, email text, encrypted_password text, email_confirmed_at timestamptz,
        raw_user_meta_data jsonb, banned_until timestamptz, created_at timestamptz, last_sign_in_at timestamptz,
        deleted_at timestamptz, is_sso_user boolean);
      insert into auth.users values (gen_random_uuid(), 'ada@example.com', '${hashOf('bcrypt 2a')}', now(),
        '{"full_name": "Ada"}', null, now(), now(), null, false)`,
    emails: ['ada@example.com'],
  },
  {
    title: 'From Keycloak',
    tables: `create table realm (id text, name text);
      create table user_entity (id text, email text, email_verified boolean, enabled boolean, first_name text,
        last_name text, created_timestamp bigint, realm_id text, service_account_client_link text);
      create table credential (user_id text, type text, secret_data text, credential_data text, created_date bigint);
      insert into realm values ('r', 'myrealm'), ('o', 'other');
      insert into user_entity select id::text, email, true, true, 'Ada', null, 1700000000123, realm, null from (values
        ('11111111-1111-4111-8111-111111111111', 'ada@example.com', 'r'), ('22222222-2222-4222-8222-222222222222',
        'alan@example.com', 'r'), ('33333333-3333-4333-8333-333333333333', 'eve@example.com', 'o')) t (id, email, realm);
      insert into credential values ('11111111-1111-4111-8111-111111111111', 'password',
        '{"value":"${keycloakValue}=","salt":"${keycloakSalt}==","additionalParameters":{}}',
        '{"hashIterations":29000,"algorithm":"pbkdf2-sha256","additionalParameters":{}}', 1),
        ('22222222-2222-4222-8222-222222222222', 'password', '{"value":"${argonValue}==","salt":"${argonSalt}=="}',
        '{"hashIterations":2,"algorithm":"argon2","additionalParameters":{"hashLength":["16"],"memory":["1024"],
        "type":["id"],"version":["1.3"],"parallelism":["2"]}}', 1)`,
    emails: ['ada@example.com', 'alan@example.com'],
  },
  {
    title: 'From better-auth',
    tables: `create table "user" (id text, email text, "emailVerified" boolean, name text, "createdAt" timestamp);
      create table account ("userId" text, "providerId" text, password text);
      insert into "user" values ('a', 'ada@example.com', true, 'Ada', now());
      insert into account values ('a', 'credential', '${hashOf('better-auth')}'), ('a', 'google', null)`,
    emails: ['ada@example.com'],
  },
];

describe('the query on the page', { skip: !backends.includes('postgres+redis') }, () => {
  for (const { title, tables, emails } of origins) {
    test(`${title} makes a file that is imported, and its users log in`, async (t) => {
      const scratch = await createScratch('postgres+redis');
      t.after(() => scratch.remove());
      const [query = ''] = readBlocks(title, 'sql');
      const lines = await onPostgres(scratch.environment.DATABASE_URL ?? '', async (client) => {
        await client.query(tables);
        // As text, which is what psql prints.
        const { rows } = await client.query({ text: query, rowMode: 'array', types: { getTypeParser: () => String } });
        return rows.map(([line]) => `${line}\n`);
      });
      assert.ok(lines.every((line) => line.indexOf('\n') === line.length - 1));
      const system = await startSystem('sqlite+memory');
      t.after(() => system.close());
      const { imported, refusals } = await importFile(system, lines);
      assert.deepEqual([imported, refusals], [emails.length, []]);
      const password = title === 'From better-auth' ? '\ufb03ce caf\u00e9' : 'correct horse';
      for (const email of emails) assert.equal((await logIn(system, email, password)).status, 200, email);
    });
  }
});
