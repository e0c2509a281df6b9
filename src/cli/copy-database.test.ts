import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import {
  type Installation,
  makeInstallation,
  onPostgres,
  readSource,
  readTarget,
  runCopy,
  startCommand,
} from '../../test/copying.ts';
import { findFreePort } from '../../test/ports.ts';
import { failStart, startProgram } from '../../test/program.ts';
import { backends, createScratch } from '../../test/system.ts';
import { openDatabase } from '../db/database.ts';

describe('the command line', () => {
  let scratch: Awaited<ReturnType<typeof createScratch>>;
  let cwd: string;

  before(async () => {
    scratch = await createScratch('sqlite+memory');
    cwd = scratch.environment.DATA_DIR ?? '';
  });

  after(() => scratch?.remove());

  const run = (args: string[], environment: Record<string, string> = {}) =>
    startCommand(args, { cwd, ...environment }).ended;

  test('says what it can do, how each command is used and which version it is', async () => {
    const [help, ofCommand, version] = await Promise.all([
      run(['--help']),
      run(['copy-database', '--help']),
      run(['--version']),
    ]);
    assert.deepEqual([help.code, ofCommand.code, version.code], [0, 0, 0]);
    assert.match(help.stdout, /copy-database \[options\] {2}copy everything from SQLite to PostgreSQL/);
    assert.match(ofCommand.stdout, /Start Latchkey with the new DATABASE_URL and the same SECRET_KEY\./);
    assert.match(version.stdout, /^\d+\.\d+\.\d+\n$/);
    for (const { stdout } of [help, ofCommand]) {
      const longest = Math.max(...stdout.split('\n').map((line) => line.length));
      assert.ok(longest <= 81, `a line of ${longest} characters`);
    }
  });

  test('answers what it does not understand with 2, and prints nothing to standard output', async () => {
    const target = 'postgres://user@127.0.0.1:1/x';
    const cases: [string[], RegExp, Record<string, string>?][] = [
      [[], /^Usage: latchkey/],
      [['copy-databse'], /^error: unknown command 'copy-databse'/],
      [['copy-database', '--too', 'x'], /^error: unknown option '--too'/],
      [['copy-database', 'x', '--to', target], /^error: too many arguments/],
      [['copy-database'], /^There is no target: set DATABASE_URL to postgres:\/\/…, or give --to\./],
      [['copy-database'], /^There is no target: /, { DATABASE_URL: 'sqlite:x.db' }],
      [['copy-database', '--from', './x.db', '--to', target], /^--from must be sqlite:<path> or postgres:\/\/…\./],
      [['copy-database', '--from', target, '--to', target], /^--from must be SQLite, /],
      [['copy-database', '--to', 'sqlite:y.db'], /^--to must be PostgreSQL, /],
      [['copy-database', '--to', 'postgres://h:99999/x'], /^--to is not a valid URL: /],
    ];
    const outcomes = await Promise.all(cases.map(([args, , environment]) => run(args, environment)));
    for (const [index, { code, stdout, stderr }] of outcomes.entries()) {
      assert.match(stderr, cases[index]?.[1] ?? /^$/);
      assert.deepEqual([code, stdout], [2, ''], stderr);
    }
    assert.deepEqual(readdirSync(cwd), [], 'and makes no file');
  });

  test('refuses a password in the arguments, and never repeats one', async () => {
    for (const url of ['postgres://user:hunter2@127.0.0.1:1/x', 'postgres://127.0.0.1:1/x?password=hunter2']) {
      const { code, stderr } = await run(['copy-database', '--to', url]);
      assert.equal(code, 2);
      assert.match(stderr, /^--to must not hold a password: .+ DATABASE_URL_FILE names, and leave out --to\.\n/);
      assert.doesNotMatch(stderr, /hunter2/);
    }
    const wrong = await run(['copy-database'], { DATABASE_URL: 'postgres://user:hunter2@h:99999/x' });
    assert.equal(wrong.code, 1);
    assert.match(wrong.stderr, /^The configuration is not usable:\n {2}- DATABASE_URL is not a valid URL: /);
    assert.doesNotMatch(wrong.stderr, /hunter2/);
  });

  test('refuses a source that is not there and makes none, or that is something else', async () => {
    const other = join(cwd, 'other.db');
    new DatabaseSync(other).exec('create table notes (text)');
    writeFileSync(join(cwd, 'notes.txt'), 'no database, but long enough to be read as one'.repeat(100));
    mkdirSync(join(cwd, 'folder.db'));
    const cases: [string, RegExp][] = [
      ['missing.db', /^Nothing was copied\. The source does not exist: there is no file missing\.db\.\n$/],
      ['none/missing.db', /^Nothing was copied\. The source does not exist: /],
      ['other.db', /^Nothing was copied\. The source other\.db is no database of Latchkey\.\n$/],
      ['notes.txt', /^Nothing was copied\. The source: the file is not a SQLite database\.\n$/],
      ['folder.db', /^Nothing was copied\. The source: the SQLite file cannot be opened\. /],
    ];
    const before = readdirSync(cwd);
    const toCopy = (path: string) => ['copy-database', '--from', `sqlite:${path}`, '--to', 'postgres://h/x'];
    const outcomes = await Promise.all(cases.map(([path]) => run(toCopy(path))));
    for (const [index, { code, stderr }] of outcomes.entries()) {
      assert.match(stderr, cases[index]?.[1] ?? /^$/);
      assert.equal(code, 1);
    }
    assert.deepEqual(readdirSync(cwd), before);
  });

  test('looks for the file where the service does, and makes neither it nor a secret', async () => {
    const target = { DATABASE_URL: 'postgres://h/x' };
    const byFolder = await run(['copy-database'], { ...target, DATA_DIR: './elsewhere' });
    assert.match(byFolder.stderr, /there is no file elsewhere\/latchkey\.db\./);
    const byUrl = await run(['copy-database', '--to', 'postgres://h/x'], { DATABASE_URL: 'sqlite:./mine.db' });
    assert.match(byUrl.stderr, /there is no file \.\/mine\.db\./);
    writeFileSync(join(cwd, '.env'), 'DATABASE_URL=sqlite:./from-env.db\n');
    const byFile = await run(['copy-database', '--to', 'postgres://h/x']);
    assert.match(byFile.stderr, /there is no file \.\/from-env\.db\./);
    const inProduction = await run(['copy-database', '--to', 'postgres://h/x'], { NODE_ENV: 'production' });
    assert.match(inProduction.stderr, /there is no file data\/latchkey\.db\./);
    assert.ok(!existsSync(join(cwd, 'elsewhere')) && !existsSync(join(cwd, 'data')));
  });
});

describe('copy-database', { skip: !backends.includes('postgres+redis') }, () => {
  let installation: Installation;
  let scratch: Awaited<ReturnType<typeof createScratch>>;
  let folder: string;
  let sourcePath: string;
  let targetUrl: string;

  before(async () => {
    installation = await makeInstallation(12);
  });

  after(() => installation?.remove());

  beforeEach(async () => {
    scratch = await createScratch('postgres+redis');
    folder = scratch.environment.DATA_DIR ?? '';
    targetUrl = scratch.environment.DATABASE_URL ?? '';
    sourcePath = join(folder, 'latchkey.db');
    copyFileSync(installation.sourcePath, sourcePath);
  });

  afterEach(() => scratch.remove());

  /** Runs a copy that must be refused, and shows that nothing came of it, there or here. */
  async function assertRefused(reason: RegExp): Promise<void> {
    const before = [readSource(sourcePath), await readTarget(targetUrl)];
    const { code, stdout, stderr } = await runCopy({ sourcePath, targetUrl });
    assert.match(stderr, reason);
    assert.deepEqual([code, stdout, stderr.split('\n').length], [1, '', 2]);
    assert.deepEqual([readSource(sourcePath), await readTarget(targetUrl)], before);
  }

  const onTarget = (statements: string) => onPostgres(targetUrl, (client) => client.query(statements));

  function onSource(statements: string): void {
    // A service that runs has the lock for a moment, whenever it writes.
    const database = new DatabaseSync(sourcePath, { timeout: 5_000 });
    database.exec(statements);
    database.close();
  }

  const makeTables = async () => (await openDatabase(targetUrl, () => {})).close();

  test('says what it copied, from where to where, what it left out and what comes next', async () => {
    const { code, stdout, stderr } = await runCopy({ sourcePath, targetUrl });
    assert.equal(code, 0, stderr);
    const { host, pathname } = new URL(targetUrl);
    const lines = stdout.split('\n');
    assert.match(lines[0] ?? '', /^Copied 79 rows from .+latchkey\.db to .+ in \d+\.\d s and compared each:$/);
    assert.ok(lines[0]?.includes(` from ${sourcePath} to ${host}${pathname} in `));
    assert.match(stdout, /^ {2}users +13$/m);
    assert.match(stdout, /^Left out: leases\.$/m);
    assert.match(stdout, /^Next: set DATABASE_URL to the new database, leave SECRET_KEY .+ as it is, and start$/m);
  });

  test('reads the target with its password from a file, and takes one without from the arguments', async () => {
    const path = join(folder, 'url');
    writeFileSync(path, `${targetUrl.replace('postgres@', 'postgres:hunter2@')}\n`);
    const args = ['copy-database', '--from', 'sqlite:latchkey.db', '--json'];
    const rehearsal = await startCommand([...args, '--dry-run', '--to', targetUrl], { cwd: folder }).ended;
    assert.deepEqual([rehearsal.code, JSON.parse(rehearsal.stdout).rows], [0, 79]);
    const copy = await startCommand(args, { cwd: folder, DATABASE_URL_FILE: path }).ended;
    assert.deepEqual([copy.code, JSON.parse(copy.stdout).rows], [0, 79]);
    assert.doesNotMatch(copy.stdout + copy.stderr, /hunter2/);
  });

  test('as a rehearsal does everything and leaves nothing', async () => {
    const { code, stdout } = await runCopy({ sourcePath, targetUrl }, '--dry-run');
    assert.equal(code, 0);
    assert.match(stdout, /^Copied 79 rows .+ and compared each:$/m);
    assert.match(stdout, /^That was a rehearsal: the target is as it was\.$/m);
    assert.deepEqual(await readTarget(targetUrl), {});
  });

  test('takes a target whose tables were made already, and says of tables that are none of ours that it left them', async () => {
    await makeTables();
    onSource('create table _backup_state (at integer); insert into _backup_state values (1)');
    const { code, stdout } = await runCopy({ sourcePath, targetUrl }, '--json');
    assert.deepEqual([code, JSON.parse(stdout).left_out], [0, ['_backup_state', 'leases']]);
  });

  test('takes a target whose order of text is not that of bytes', async () => {
    const name = `${new URL(targetUrl).pathname.slice(1)}_icu`;
    await onTarget(`create database ${name} template template0 encoding utf8 locale_provider icu icu_locale 'en-US'`);
    const url = new URL(targetUrl);
    url.pathname = `/${name}`;
    const { code, stderr } = await runCopy({ sourcePath, targetUrl: url.href });
    const copied = await readTarget(url.href);
    await onTarget(`drop database ${name} with (force)`);
    assert.equal(code, 0, stderr);
    assert.deepEqual(copied, { ...readSource(sourcePath), leases: [] });
  });

  test('refuses a target with rows of any kind, and names the tables', async () => {
    await makeTables();
    await onTarget("insert into pending_erasures values ('somebody', 1)");
    await assertRefused(/^Nothing was copied\. The target is not empty: it has rows in pending_erasures, and /);
    await onTarget("delete from pending_erasures; insert into leases values ('chore', 'another', 1)");
    await assertRefused(/: it has rows in leases, /);
    await onTarget("delete from leases; insert into roles values ('own', '', '[]', 0)");
    await assertRefused(/: it has rows in roles, /);
    await onTarget("delete from roles where name = 'own'; update roles set permissions = '[]'");
    await assertRefused(/: it has rows in roles, /);
  });

  test('refuses a second copy over the first', async () => {
    assert.equal((await runCopy({ sourcePath, targetUrl })).code, 0);
    await assertRefused(/: it has rows in users, user_roles, sessions, signing_keys, .+, roles, and a copy replaces/);
  });

  test('refuses a target that the service was started on, which has keys of its own', async () => {
    const environment = { DATA_DIR: folder, DATABASE_URL: targetUrl, SECRET_KEY: installation.secret };
    const program = await startProgram(environment);
    await program.stop('SIGTERM');
    await assertRefused(/^Nothing was copied\. The target is not empty: .*signing_keys.* Use a new, empty database\. /);
  });

  test('refuses a target with tables of another program', async () => {
    await onTarget('create table users (login text)');
    await assertRefused(/^Nothing was copied\. The target has tables of another program with the same names\. /);
  });

  test('refuses a target of a newer version', async () => {
    await makeTables();
    await onTarget("insert into kysely_migration values ('9999-future', '2030-01-01T00:00:00.000Z')");
    await assertRefused(
      /^Nothing was copied\. The target: the tables were made by a later version of Latchkey \(9999-future\)\. /,
    );
  });

  test('refuses a source of an older version, and does not bring it up to date', async () => {
    onSource("delete from kysely_migration where name like '0002-%'");
    await assertRefused(
      /^Nothing was copied\. The source was last used by an older version .+ Start this version once /,
    );
  });

  test('refuses a source of a newer version', async () => {
    onSource("insert into kysely_migration values ('9999-future', '2030-01-01T00:00:00.000Z')");
    await assertRefused(/^Nothing was copied\. The source was made by a newer version of Latchkey \(9999-future\)\. /);
  });

  test('refuses a user who may not make tables in the target', async () => {
    const { pathname } = new URL(targetUrl);
    const name = `${pathname.slice(1)}_guest`;
    await onTarget(`create role ${name} login; revoke create on schema public from public`);
    const url = new URL(targetUrl);
    url.username = name;
    const { code, stderr } = await runCopy({ sourcePath, targetUrl: url.href });
    await onTarget(`drop role ${name}`);
    assert.equal(code, 1);
    assert.match(stderr, /^Nothing was copied\. The target: the user may not make tables in that database\. .+\n$/);
    assert.deepEqual(await readTarget(targetUrl), {});
  });

  test('says why a target cannot be reached, without its password', async () => {
    const port = await findFreePort();
    const missing = new URL(targetUrl);
    missing.pathname = '/no_such_database';
    missing.password = 'hunter2';
    const cases: [string, RegExp][] = [
      [
        `postgres://user:hunter2@127.0.0.1:${port}/x`,
        /^Nothing was copied\. The target: PostgreSQL does not answer \(ECONNREFUSED\)\. .+\n$/,
      ],
      [missing.href, /^Nothing was copied\. The target: the server has no database of that name\. .+\n$/],
    ];
    for (const [url, expected] of cases) {
      const { code, stderr } = await runCopy({ sourcePath, targetUrl: url });
      assert.equal(code, 1);
      assert.match(stderr, expected);
      assert.doesNotMatch(stderr, /hunter2/);
    }
  });

  test('brings along what a killed service has left beside its file', async () => {
    const environment = { DATA_DIR: folder, SECRET_KEY: installation.secret };
    const program = await startProgram(environment);
    try {
      onSource('update users set locale = null; pragma wal_autocheckpoint = 0');
    } finally {
      await program.stop('SIGKILL');
    }
    assert.ok(existsSync(`${sourcePath}-wal`));
    assert.equal((await runCopy({ sourcePath, targetUrl })).code, 0);
    const { leases: _leases, ...source } = readSource(sourcePath);
    assert.deepEqual(await readTarget(targetUrl), { ...source, leases: [] });
    const start = await failStart({ ...environment, SECRET_KEY: `${installation.secret}x`, DATABASE_URL: targetUrl });
    assert.match(start.output, /^SECRET_KEY is not the one that this database was made with/);
  });
});
