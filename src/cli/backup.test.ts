import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { logIn, registerUser } from '../../test/accounts.ts';
import { readSource, startCommand } from '../../test/copying.ts';
import { createScratch, type System, startSystem } from '../../test/system.ts';
import { backUpDatabase } from '../db/backup.ts';

describe('backup', () => {
  let system: System;
  let cwd: string;
  const names = () => readdirSync(cwd).sort();
  const run = (...args: string[]) => startCommand(['backup', ...args], { cwd, DATA_DIR: '.' }).ended;
  const ignore = { onProgress: () => {}, signal: new AbortController().signal };

  before(async () => {
    const scratch = await createScratch('sqlite+memory');
    cwd = scratch.environment.DATA_DIR ?? '';
    system = await startSystem('sqlite+memory', { DATA_DIR: cwd });
  });
  after(() => system?.close());

  test('copies everything while the service runs, into one file that its owner alone can read', async () => {
    await registerUser(system);
    const { code, stdout } = await run('copy.db', '--json');
    assert.equal(code, 0);
    const { file, bytes, checked } = JSON.parse(stdout);
    assert.deepEqual([file, bytes, checked], ['copy.db', statSync(join(cwd, 'copy.db')).size, true]);
    assert.equal(statSync(join(cwd, 'copy.db')).mode & 0o777, 0o600);
    assert.deepEqual(readSource(join(cwd, 'copy.db')), readSource(join(cwd, 'latchkey.db')));
    assert.deepEqual(
      names().filter((name) => name.startsWith('copy')),
      ['copy.db'],
    );
  });

  test('a restored copy serves: whoever could log in still can', async () => {
    const user = await registerUser(system);
    const folder = join(cwd, 'restored');
    const targetPath = join(cwd, 'restorable.db');
    await backUpDatabase({ sourcePath: join(cwd, 'latchkey.db'), targetPath, ...ignore });
    const restored = await startSystem('sqlite+memory', {
      DATA_DIR: folder,
      DATABASE_URL: `sqlite:${targetPath}`,
      SECRET_KEY: system.deps.config.environment.SECRET_KEY,
    });
    const { status } = await logIn(restored, user.email, user.password);
    await restored.close();
    assert.equal(status, 200);
  });

  test('is one moment of the database, whatever is written meanwhile', async () => {
    const source = new DatabaseSync(join(cwd, 'latchkey.db'));
    source.exec('pragma busy_timeout = 5000; create table filler (id integer primary key, text text) strict');
    source.exec(`with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
      insert into filler select i, hex(randomblob(400)) from n`);
    source.exec('create table pairs (a integer, b integer) strict; insert into pairs values (0, 0)');
    let isOver = false;
    let writes = 0;
    // Both always change together; a copy of two moments would have one of them.
    const write = async () => {
      while (!isOver) {
        source.exec(
          'begin immediate; update pairs set a = a + 1; update filler set text = text where id = 1; update pairs set b = b + 1; commit',
        );
        writes += 1;
        await sleep(1);
      }
    };
    const writing = write();
    const steps: number[] = [];
    const targetPath = join(cwd, 'moment.db');
    await backUpDatabase({
      sourcePath: join(cwd, 'latchkey.db'),
      targetPath,
      onProgress: ({ pages }) => steps.push(pages),
      signal: ignore.signal,
    });
    isOver = true;
    await writing;
    source.exec('drop table filler; drop table pairs');
    source.close();
    const copy = new DatabaseSync(targetPath, { readOnly: true });
    const { a, b } = copy.prepare('select a, b from pairs').get() ?? {};
    const { count } = copy.prepare('select count(*) as count from filler').get() ?? {};
    copy.close();
    assert.equal(a, b);
    assert.equal(count, 20_000);
    assert.ok(writes > 0 && steps.length >= 4, `${writes} writes during ${steps.length} steps`);
    assert.deepEqual(
      steps,
      steps.toSorted((one, other) => one - other),
      'it never began anew',
    );
  });

  test('overwrites nothing, and leaves nothing where it cannot be made', async () => {
    writeFileSync(join(cwd, 'taken'), 'precious');
    const before = names();
    const cases: [string[], Record<string, string>, RegExp][] = [
      [['taken'], {}, /^No backup was made\. taken is there already and stays as it is\. Name a new file\.\n$/],
      [['no/copy.db'], {}, /^No backup was made\. No file can be made in .+\/no \(ENOENT\)\.\n$/],
      [['copy-2.db'], { DATA_DIR: './none' }, /^No backup was made\. There is no database at none\/latchkey\.db\.\n$/],
      [
        ['copy-2.db'],
        { DATABASE_URL: 'sqlite:./taken' },
        /^No backup was made\. the file is not a SQLite database\.\n$/i,
      ],
      [['copy-2.db'], { DATABASE_URL: 'postgres://u:hunter2@h/x' }, /^DATABASE_URL names PostgreSQL, .+ pg_dump /],
    ];
    const outcomes = await Promise.all(
      cases.map(
        ([args, environment]) => startCommand(['backup', ...args], { cwd, DATA_DIR: '.', ...environment }).ended,
      ),
    );
    for (const [index, { code, stdout, stderr }] of outcomes.entries()) {
      assert.match(stderr, cases[index]?.[2] ?? /^$/);
      assert.deepEqual([code, stdout], [1, '']);
      assert.doesNotMatch(stderr, /hunter2/);
    }
    assert.deepEqual(names(), before);
  });

  test('refuses a copy that is damaged, because the database is', async () => {
    const path = join(cwd, 'damaged.db');
    await backUpDatabase({ sourcePath: join(cwd, 'latchkey.db'), targetPath: path, ...ignore });
    // One page is not what it was, as a failing disk leaves it.
    const { root } = readRow(path, "select rootpage as root from sqlite_schema where name = 'outbox_expires_at'");
    const { page_size: pageBytes } = readRow(path, 'pragma page_size');
    const content = readFileSync(path);
    content.fill(0, (Number(root) - 1) * Number(pageBytes), Number(root) * Number(pageBytes));
    writeFileSync(path, content);
    const targetPath = join(cwd, 'of-damaged.db');
    await assert.rejects(
      backUpDatabase({ sourcePath: path, targetPath, ...ignore }),
      /The copy is damaged, and most likely so is/,
    );
    assert.deepEqual(
      names().filter((name) => name.startsWith('of-damaged')),
      [],
    );
  });

  test('leaves nothing when it is interrupted', async () => {
    const interruption = new AbortController();
    const targetPath = join(cwd, 'interrupted.db');
    const making = backUpDatabase({
      sourcePath: join(cwd, 'latchkey.db'),
      targetPath,
      onProgress: () => interruption.abort(new Error('interrupted')),
      signal: interruption.signal,
    });
    await assert.rejects(making, /interrupted/);
    assert.ok(!existsSync(targetPath) && names().every((name) => !name.startsWith('interrupted')));
  });
});

function readRow(path: string, query: string): Record<string, unknown> {
  const database = new DatabaseSync(path, { readOnly: true });
  const row = database.prepare(query).get() ?? {};
  database.close();
  return row;
}
