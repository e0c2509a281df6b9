import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, describe, test } from 'node:test';
import { onPostgres, startCommand } from '../../test/copying.ts';
import { backends, createScratch } from '../../test/system.ts';

describe('commands that need no installation', () => {
  let cwd: string;
  let remove: () => Promise<void>;
  const run = (args: string[], environment: Record<string, string> = {}) =>
    startCommand(args, { cwd, ...environment }).ended;

  before(async () => {
    const scratch = await createScratch('sqlite+memory');
    cwd = scratch.environment.DATA_DIR ?? '';
    remove = scratch.remove;
  });
  after(() => remove?.());

  test('secret generate prints a new secret that the configuration takes, or writes it for its owner alone', async () => {
    const [one, other, written] = await Promise.all([
      run(['secret', 'generate']),
      run(['secret', 'generate'], { SECRET_KEY: 'the old secret, which nobody should see printed' }),
      run(['secret', 'generate', '--output', 'secret']),
    ]);
    assert.match(one.stdout, /^[\w-]{64}\n$/);
    assert.notEqual(one.stdout, other.stdout);
    assert.deepEqual([written.code, written.stdout], [0, '']);
    const content = readFileSync(join(cwd, 'secret'), 'utf8');
    assert.match(content, /^[\w-]{64}\n$/);
    assert.equal(statSync(join(cwd, 'secret')).mode & 0o777, 0o600);
    const again = await run(['secret', 'generate', '--output', 'secret']);
    assert.deepEqual([again.code, again.stderr], [1, 'secret is there already and stays as it is. Name a new file.\n']);
    assert.equal(readFileSync(join(cwd, 'secret'), 'utf8'), content);
  });

  test('openapi prints the committed document, under the address that PUBLIC_URL says, and opens no database', async () => {
    const { code, stdout } = await run(['openapi'], {
      PUBLIC_URL: 'https://auth.example.com',
      NODE_ENV: 'production',
      DATABASE_URL: 'postgres://127.0.0.1:1/x',
    });
    assert.equal(code, 0);
    assert.deepEqual(
      JSON.parse(stdout),
      JSON.parse(readFileSync(join(import.meta.dirname, '../../openapi.json'), 'utf8')),
    );
  });

  test('a command in a wrong folder says so, and makes neither a database nor a secret', async () => {
    const commands = [
      ['keys', 'list'],
      ['users', 'delete', 'a@b.de', '--yes'],
    ];
    const outcomes = await Promise.all(commands.map((args) => run(args, { DATA_DIR: './elsewhere' })));
    for (const { code, stdout, stderr } of outcomes) {
      assert.match(
        stderr,
        /^There is no database at elsewhere\/latchkey\.db\. Go to the folder that Latchkey runs in, /,
      );
      assert.deepEqual([code, stdout], [1, '']);
    }
    assert.ok(!existsSync(join(cwd, 'elsewhere')));
  });
});

for (const backend of backends) {
  describe(`migrate (${backend})`, () => {
    let scratch: Awaited<ReturnType<typeof createScratch>>;
    const folder = () => scratch.environment.DATA_DIR ?? '';
    // Neither Redis nor a secret: whoever owns the tables need not have them.
    const run = (args: string[]) => {
      const { REDIS_URL: _redis, ...environment } = scratch.environment;
      return startCommand(args, { cwd: folder(), ...environment, NODE_ENV: 'production' }).ended;
    };

    before(async () => {
      scratch = await createScratch(backend);
    });
    after(() => scratch?.remove());

    test('--check changes nothing and ends with 3 while something is pending; without it the tables are made', async () => {
      const check = await run(['migrate', '--check']);
      assert.match(check.stdout, /^Pending: 0001-initial, .+\. Back up the database, then run: latchkey migrate\n$/);
      assert.equal(check.code, 3);
      if (backend === 'sqlite+memory') assert.deepEqual(readdirSync(folder()), []);
      const [first, second] = [await run(['migrate', '--json']), await run(['migrate'])];
      assert.equal(JSON.parse(first.stdout).applied[0], '0001-initial');
      assert.deepEqual([first.code, second.code, second.stdout], [0, 0, 'The tables are up to date.\n']);
      const done = await run(['migrate', '--check', '--json']);
      assert.deepEqual([done.code, done.stdout], [0, '{"pending":[]}\n']);
    });

    test('no other command changes tables that are behind: an older version may be running on them', async () => {
      const forget = "delete from kysely_migration where name = '0002-account-life'";
      const environment = {
        ...scratch.environment,
        cwd: folder(),
        SECRET_KEY: 'q7Vf1mX0hJr9Zt3KpWc5Ny8BdLs2Gu6EaTiO4xRv',
      };
      const { DATABASE_URL } = scratch.environment;
      if (DATABASE_URL === undefined) onSqlite(join(folder(), 'latchkey.db'), forget);
      else await onPostgres(DATABASE_URL, (client) => client.query(forget));
      for (const args of [
        ['keys', 'list'],
        ['create-admin', '--email', 'ada@example.com'],
      ]) {
        const { code, stderr } = await startCommand(args, environment).ended;
        assert.match(
          stderr,
          /the tables are missing or behind \(0002-account-life\)\. Bring them up to date with: latchkey migrate/,
        );
        assert.equal(code, 1);
      }
    });
  });
}

describe('a database that is away', () => {
  test('is said at once by a command, in a sentence without the password', async () => {
    const { environment, remove } = await createScratch('sqlite+memory');
    const DATABASE_URL = 'postgres://user:hunter2@127.0.0.1:1/x';
    const { code, stderr } = await startCommand(['keys', 'list'], {
      cwd: environment.DATA_DIR ?? '',
      DATABASE_URL,
      SECRET_KEY: 'q7Vf1mX0hJr9Zt3KpWc5Ny8BdLs2Gu6EaTiO4xRv',
    }).ended;
    await remove();
    assert.equal(code, 1);
    assert.match(stderr, /^The command failed\. DATABASE_URL: PostgreSQL does not answer \(ECONNREFUSED\)\. /);
    assert.doesNotMatch(stderr, /hunter2|at /);
  });
});

function onSqlite(path: string, statement: string): void {
  const database = new DatabaseSync(path);
  database.exec(statement);
  database.close();
}
