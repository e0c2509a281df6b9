import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { type MailServer, readHeaders, startMailServer } from '../test/mail-server.ts';
import { findFreePort } from '../test/ports.ts';
import { send } from '../test/program.ts';
import { inScratch } from '../test/scratch.ts';
import type { Backend } from '../test/system.ts';
import { until } from '../test/until.ts';
import { type UpgradeFacts, upgradeFolder } from '../test/upgrade-fixtures.ts';

/**
 * Makes what test/upgrade.test.ts starts from: with the program of an earlier version, which lies in a folder with its
 * dependencies, a small database on SQLite and on PostgreSQL, and what its users know. docs/releasing.md says when.
 *
 *   FOUND_BACKENDS=postgres,redis node scripts/make-upgrade-fixture.ts <folder of the version> <name>
 */
const { positionals } = parseArgs({ allowPositionals: true });
const [source = '', name = ''] = positionals;
assert.match(name, /^[\w.-]+$/, 'usage: make-upgrade-fixture.ts <folder of the version> <name>');

const publicUrl = 'https://auth.example.com';
const password = 'correct horse battery staple';
const newPassword = 'another horse, another battery';

for (const backend of ['sqlite+memory', 'postgres+redis'] as const)
  await inScratch((scratch) => make(backend, scratch), backend);

async function make(backend: Backend, scratch: Record<string, string>): Promise<void> {
  const { REDIS_URL: _redis, ...database } = scratch;
  const secretKey = randomBytes(48).toString('base64');
  const mail = await startMailServer();
  const service = await start({ ...database, SECRET_KEY: secretKey, SMTP_URL: mail.url });
  const facts = await live(service, mail).finally(() => stop(service));

  const folder = join(upgradeFolder, name);
  mkdirSync(folder, { recursive: true });
  const isSqlite = backend === 'sqlite+memory';
  const dialect = isSqlite ? 'sqlite' : 'postgres';
  const dump = isSqlite
    ? dumpSqlite(join(database['DATA_DIR'] ?? '', 'latchkey.db'), facts)
    : await dumpPostgres(database['DATABASE_URL'] ?? '', facts);
  writeFileSync(join(folder, `${dialect}.sql`), dump);
  const { version } = JSON.parse(readFileSync(join(source, 'package.json'), 'utf8'));
  const all: UpgradeFacts = { version, publicUrl, secretKey, ...facts };
  writeFileSync(join(folder, `${dialect}.json`), `${JSON.stringify(all, null, 2)}\n`);
  console.log(`${folder}/${dialect}.sql has ${dump.split('\n').length} lines`);
}

type Acts = Pick<UpgradeFacts, 'administratorId' | 'disabledId'>;
type Service = { origin: string; child: ChildProcess };

async function start(environment: Record<string, string>): Promise<Service> {
  const port = await findFreePort();
  const child = spawn(process.execPath, [join(resolve(source), 'src/main.ts')], {
    cwd: environment['DATA_DIR'],
    stdio: 'inherit',
    env: {
      PATH: process.env['PATH'],
      NODE_ENV: 'production',
      HOST: '127.0.0.1',
      PORT: `${port}`,
      PUBLIC_URL: publicUrl,
      MAIL_FROM: 'no-reply@example.com',
      BCRYPT_COST: '10',
      LOG_LEVEL: 'warn',
      ...environment,
    },
  });
  const origin = `http://127.0.0.1:${port}`;
  await until(async () => {
    assert.equal(child.exitCode, null, 'the earlier version did not start');
    return (await fetch(`${origin}/health/live`).catch(() => undefined))?.ok ?? false;
  }, 30_000);
  return { origin, child };
}

async function stop({ child }: Service): Promise<void> {
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  await ended;
}

/** What users do with the earlier version, so that every table that it has holds something. */
async function live(
  service: Service,
  mail: MailServer,
): Promise<Omit<UpgradeFacts, 'version' | 'publicUrl' | 'secretKey'>> {
  const post = async (path: string, body: unknown, token?: string) =>
    (await send(service, { method: 'POST', path, body, token, userAgent: 'Firefox/141.0' })).body;
  const users: UpgradeFacts['users'] = [];
  for (const person of ['ada', 'grace', 'mallory']) {
    const email = `${person}@example.com`;
    const proof = await prove(service, mail, email);
    const tokens = await post('/auth/register', { verification_token: proof, password, name: person });
    users.push({
      id: tokens.user.id,
      email,
      password,
      refreshToken: tokens.refresh_token,
      accessToken: tokens.access_token,
    });
  }
  const [ada, grace, mallory] = users;
  assert.ok(ada && grace && mallory);

  // One that was rotated, one that was logged out, and one whose password was changed; and somebody who guesses.
  const rotated = await post('/auth/refresh', { refresh_token: ada.refreshToken });
  const spentRefreshToken = ada.refreshToken;
  Object.assign(ada, { refreshToken: rotated.refresh_token, accessToken: rotated.access_token });
  const ended = await post('/auth/login', { email: grace.email, password });
  await post('/auth/logout', { refresh_token: ended.refresh_token });
  await post('/auth/login', { email: mallory.email, password: 'a wrong password' });

  // From here on mail waits.
  await mail.stop();
  const change = { current_password: password, new_password: newPassword };
  const changed = await send(service, {
    method: 'PUT',
    path: '/users/me/password',
    body: change,
    token: grace.accessToken,
  });
  assert.equal(changed.status, 204);
  grace.password = newPassword;
  // Not every version has it.
  await send(service, {
    method: 'POST',
    path: '/users/me/email',
    body: { email: 'ada@example.org' },
    token: ada.accessToken,
  });
  const request = { email: 'late@example.com', purpose: 'registration' };
  const sent = await send(service, { method: 'POST', path: '/auth/send-code', body: request });
  assert.equal(sent.status, 202);
  return {
    madeAtMs: Date.now(),
    users,
    administratorId: grace.id,
    disabledId: mallory.id,
    endedRefreshToken: ended.refresh_token,
    spentRefreshToken,
  };
}

async function prove(service: Service, mail: MailServer, email: string): Promise<string> {
  const purpose = 'registration';
  const sent = await send(service, { method: 'POST', path: '/auth/send-code', body: { email, purpose } });
  assert.equal(sent.status, 202);
  const find = () => mail.received.find(({ to }) => to.includes(email));
  await until(() => find() !== undefined, 20_000);
  const code = readHeaders(find()?.data ?? '')
    .get('subject')?.[0]
    ?.slice(0, 6);
  const proof = await send(service, { method: 'POST', path: '/auth/verify-code', body: { email, purpose, code } });
  return proof.body.verification_token;
}

/** What an administrator of the earlier version would have done; the first versions have no command for it. */
function administrate({ administratorId, disabledId }: Acts): string {
  return `insert into user_roles (user_id, role_name) values ('${administratorId}', 'admin');
update users set status = 'disabled' where id = '${disabledId}';`;
}

function dumpSqlite(path: string, acts: Acts): string {
  const database = new DatabaseSync(path);
  database.exec(administrate(acts));
  const objects = database
    .prepare('select name, type, sql from sqlite_master where sql is not null order by rowid')
    .all();
  const statements = objects.map(({ sql }) => `${sql};`);
  for (const { name: table } of objects.filter(({ type }) => type === 'table')) {
    const columns = database
      .prepare(`select name from pragma_table_info('${table}')`)
      .all()
      .map((row) => `"${row['name']}"`);
    const values = columns.map((column) => `quote(${column})`).join(` || ', ' || `);
    const rows = database.prepare(`select ${values} as row from "${table}" order by rowid`).all();
    statements.push(...rows.map(({ row }) => `insert into "${table}" (${columns.join(', ')}) values (${row});`));
  }
  database.close();
  return `${statements.join('\n')}\n`;
}

async function dumpPostgres(url: string, acts: Acts): Promise<string> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(administrate(acts));
  await client.end();
  const options = ['--inserts', '--column-inserts', '--no-owner', '--no-privileges', '--no-comments'];
  const dump = execFileSync('pg_dump', [...options, `--dbname=${url}`], { encoding: 'utf8' });
  // What only psql or a server of one version understands, and what tells of the machine.
  const lines = dump.split('\n').filter((line) => !/^(?:--|\\|SET |$)/.test(line));
  return `${lines.join('\n')}\n`;
}
