import assert from 'node:assert/strict';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Database, openDatabase } from '../src/db/database.ts';
import { startCommand } from './copying.ts';
import { firebaseParameters, firebaseVector, foreignVectors } from './foreign-hashes.ts';
import { newSecret } from './passwords.ts';
import { get, post, startProgram } from './program.ts';
import { inScratch } from './scratch.ts';
import { type Backend, backends } from './system.ts';
import { reasonToSkipLong } from './thorough.ts';

type Environment = Record<string, string> & { DATA_DIR: string };

const hash = foreignVectors[0]?.hash ?? '';

function run(environment: Environment, ...args: string[]) {
  return start(environment, ...args).ended;
}

function start(environment: Environment, ...args: string[]) {
  return startCommand(['users', ...args], {
    cwd: environment.DATA_DIR,
    BCRYPT_COST: '4',
    DATABASE_START_WAIT_SECONDS: '0',
    ...environment,
  });
}

function put({ DATA_DIR }: Environment, name: string, lines: readonly unknown[]): string {
  const path = join(DATA_DIR, name);
  const texts = lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line)));
  writeFileSync(path, `${texts.join('\n')}\n`);
  return path;
}

/** Writes a file of so many users, a piece at a time. */
function putMany({ DATA_DIR }: Environment, count: number): string {
  const path = join(DATA_DIR, 'many.ndjson');
  writeFileSync(path, '');
  for (let from = 0; from < count; from += 10_000) {
    const lines = Array.from({ length: Math.min(10_000, count - from) }, (_, offset) => {
      const email = `user-${from + offset}@example.com`;
      return `${JSON.stringify({ email, name: `User ${from + offset}`, metadata: { plan: 'free' }, password_hash: hash })}\n`;
    });
    writeFileSync(path, lines.join(''), { flag: 'a' });
  }
  return path;
}

async function onDatabaseOf<T>(environment: Environment, work: (database: Database) => Promise<T>): Promise<T> {
  const url = environment.DATABASE_URL ?? `sqlite:${join(environment.DATA_DIR, 'latchkey.db')}`;
  const database = await openDatabase(url, () => {});
  try {
    return await work(database);
  } finally {
    await database.close();
  }
}

function countUsers(environment: Environment): Promise<number> {
  return onDatabaseOf(environment, async ({ db }) => {
    const { count } = await db
      .selectFrom('users')
      .select((eb) => eb.fn.countAll().as('count'))
      .executeTakeFirstOrThrow();
    return Number(count);
  });
}

describe('users import', () => {
  test('says what it did, refuses with exit code 1 and shows no address, which only the report has', () =>
    inScratch(async (environment) => {
      const path = put(environment, 'users.ndjson', [
        { email: 'ada@example.com', password_hash: hash },
        { email: 'bob@example.com', password_hash: 'secret-looking' },
        { email: 'eve@example.com', email_verified: false, password_hash: hash },
      ]);
      const report = join(environment.DATA_DIR, 'report.ndjson');
      const rehearsal = await run(environment, 'import', path, '--addresses-are-proved', '--dry-run');
      assert.equal(rehearsal.code, 1);
      assert.match(rehearsal.stdout, /^ +2 would be imported$/m);
      assert.match(rehearsal.stdout, /^That was a rehearsal: nothing was written\.$/m);
      assert.equal(
        rehearsal.stderr,
        'line 2 has a password hash of a format that is not known\n' +
          '1 lines were refused. Give --report to have all of them in a file.\n',
      );
      assert.equal(await countUsers(environment), 0);

      const first = await run(environment, 'import', path, '--addresses-are-proved', '--report', report);
      assert.deepEqual([first.code, first.stderr], [1, `1 lines were refused. ${report}\n`]);
      assert.match(first.stdout, /^Read 3 lines in \d+\.\d s \([\d,]+ a second\):\n {2}2 imported$/m);
      assert.match(first.stdout, /^ {2}1 {3}of them invited/m);
      assert.equal(statSync(report).mode & 0o777, 0o600);
      const entry = {
        line: 2,
        email: 'bob@example.com',
        reason: 'hash_unknown_format',
        message: 'has a password hash of a format that is not known',
      };
      assert.deepEqual(JSON.parse(readFileSync(report, 'utf8')), entry);

      const taken = await run(environment, 'import', path, '--addresses-are-proved', '--report', report);
      assert.deepEqual([taken.code, taken.stdout], [1, '']);
      assert.match(taken.stderr, /^--report: .+report\.ndjson: it is there already, and is not replaced\.\n$/);

      const { code, stdout } = await run(environment, 'import', path, '--addresses-are-proved', '--json');
      const { duration_ms, ...result } = JSON.parse(stdout);
      assert.equal(code, 1);
      assert.deepEqual(result, {
        dry_run: false,
        lines: 3,
        imported: 0,
        invited: 0,
        without_password: 0,
        passwords_left_out: 0,
        already_there: 2,
        updated: 0,
        passwords_kept: 0,
        refused: 1,
        reasons: { hash_unknown_format: 1 },
      });
      assert.ok(duration_ms > 0);
    }));

  test('reads CSV, standard input and the parameters of Firebase, whose user then logs in', () =>
    inScratch(async (environment) => {
      const { password, hash: exported } = firebaseVector;
      const path = put(environment, 'users.CSV', ['email,password_hash', `ada@example.com,${exported}`]);
      const parameters = put(environment, 'parameters', [firebaseParameters]);
      const refused = await run(environment, 'import', path, '--addresses-are-proved');
      assert.match(refused.stderr, /^line 2 has a hash from Firebase; give --firebase-parameters <file>$/m);
      const args = ['--addresses-are-proved', '--firebase-parameters', parameters];
      const { code, stderr } = await run(environment, 'import', path, ...args);
      assert.deepEqual([code, stderr], [0, '']);
      const piped = startCommand(['users', 'import', '-', '--addresses-are-proved'], {
        cwd: environment.DATA_DIR,
        ...environment,
      });
      assert.match((await piped.ended).stdout, /^Read 0 lines /, 'its standard input is empty');
      const program = await startProgram(environment);
      const login = await post(program, '/auth/login', { email: 'ada@example.com', password });
      const me = await get(program, '/users/me', login.body.access_token);
      await program.stop('SIGTERM');
      assert.equal(me.body.email, 'ada@example.com');
    }));

  test('says in a sentence what it cannot do', () =>
    inScratch(async (environment) => {
      const empty = put(environment, 'empty.ndjson', ['']);
      const header = put(environment, 'header.csv', ['name']);
      const cases: [string[], number, RegExp][] = [
        [['import', 'missing.ndjson'], 1, /^missing\.ndjson cannot be read \(ENOENT\)\.\n$/],
        [['import', '.'], 1, /^\. cannot be read \(EISDIR\)\.\n$/],
        [['import', header], 1, /^The header names no column email\.\n$/],
        [['import', empty, '--allow-role', 'nobody'], 1, /^There is no role "nobody"\.\n$/],
        [
          ['import', empty, '--firebase-parameters', 'none'],
          1,
          /^--firebase-parameters: none cannot be read \(ENOENT\)/,
        ],
        [
          ['import', empty, '--firebase-parameters', empty],
          1,
          /^--firebase-parameters: .+ must hold base64_signer_key/,
        ],
        [['import', empty, '--report', 'none/report'], 1, /^--report: none\/report: it cannot be made \(ENOENT\)\.\n$/],
        [['import'], 2, /^error: missing required argument 'file'/],
        [['import', empty, '--format', 'xml'], 2, /^error: option '--format <format>' argument 'xml' is invalid/],
        [['export', '--with-hashes'], 2, /^--with-hashes needs --output/],
        [['export', '--output', empty], 1, /^--output: .+empty\.ndjson is there already, and is not replaced\.\n$/],
      ];
      const outcomes = await Promise.all(cases.map(([args]) => run(environment, ...args)));
      for (const [index, { code, stdout, stderr }] of outcomes.entries()) {
        const [args, expected, message] = cases[index] ?? [[], 0, /^$/];
        assert.match(stderr, message);
        assert.deepEqual([code, stdout], [expected, ''], args.join(' '));
      }
      assert.equal(existsSync(`${empty}.partial`), false);
    }));

  test('explains itself in lines of eighty characters', () =>
    inScratch(async (environment) => {
      const pages = [['--help'], ['import', '--help'], ['export', '--help']];
      for (const { code, stdout } of await Promise.all(pages.map((args) => run(environment, ...args)))) {
        assert.equal(code, 0);
        assert.ok(Math.max(...stdout.split('\n').map(({ length }) => length)) <= 81);
      }
    }));

  for (const backend of backends) {
    test(`killed in the middle has whole batches, and is completed by running it again (${backend})`, () =>
      inScratch((environment) => checkKill({ ...environment, SECRET_KEY: newSecret() }, 8_000), backend));

    const counts = [10_000, 100_000] as const;
    for (const count of counts) {
      const skip = count > 10_000 && reasonToSkipLong;
      test(`${count} users are imported and exported in little memory (${backend})`, { skip }, (t) =>
        inScratch(async (scratch) => {
          const environment = { ...scratch, SECRET_KEY: newSecret() };
          const { stdout, peakMebibytes } = await run(
            environment,
            'import',
            putMany(environment, count),
            '--addresses-are-proved',
            '--json',
          );
          const { imported, duration_ms } = JSON.parse(stdout);
          assert.equal(imported, count);
          const output = join(environment.DATA_DIR, 'export.ndjson');
          const exported = await run(environment, 'export', '--with-hashes', '--output', output);
          assert.match(exported.stdout, new RegExp(`^Wrote ${count.toLocaleString('en')} users`));
          assert.equal(statSync(output).mode & 0o777, 0o600);
          const rate = Math.round((count / duration_ms) * 1_000);
          const [peak, exportPeak] = [peakMebibytes ?? 0, exported.peakMebibytes ?? 0];
          t.diagnostic(`${rate} lines a second, at most ${Math.round(peak)} MiB, export ${Math.round(exportPeak)} MiB`);
          assert.ok(Math.max(peak, exportPeak) < memoryLimitMebibytes, `${peak} and ${exportPeak} MiB`);
        }, backend as Backend),
      );
    }
  }
});

// The same for ten thousand and a hundred thousand. Most of it is what the runtime has not collected yet.
const memoryLimitMebibytes = 400;

async function checkKill(environment: Environment, count: number): Promise<void> {
  const path = putMany(environment, count);
  const command = start(environment, 'import', path, '--addresses-are-proved');
  let seen = 0;
  for (let attempt = 0; attempt < 400 && seen === 0; attempt += 1) {
    await sleep(25);
    // Until the tables are there.
    seen = await countUsers(environment).catch(() => 0);
  }
  command.kill('SIGKILL');
  assert.equal((await command.ended).signal, 'SIGKILL', 'it was done before it could be killed');
  const before = await countUsers(environment);
  assert.ok(before > 0 && before < count, `${before} users`);
  assert.equal(before % 500, 0, 'a batch is there as a whole or not at all');
  const { code, stdout } = await run(environment, 'import', path, '--addresses-are-proved', '--json');
  const { imported, already_there } = JSON.parse(stdout);
  assert.deepEqual([code, imported, already_there], [0, count - before, before]);
  const { events, roles } = await onDatabaseOf(environment, async ({ db }) => ({
    events: await db.selectFrom('audit_events').select('details').where('type', '=', 'users.imported').execute(),
    roles: await db.selectFrom('user_roles').select('user_id').execute(),
  }));
  assert.equal(
    events.reduce((sum, { details }) => sum + JSON.parse(details).imported, 0),
    count,
  );
  assert.equal(roles.length, count);
}
