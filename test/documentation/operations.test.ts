import assert from 'node:assert/strict';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Answer, get, type Program, post, register } from '../program.ts';
import { inScratch } from '../scratch.ts';
import { backends } from '../system.ts';
import { readBlocks } from './blocks.ts';
import { makeServiceFolder, paste, whileRunning } from './paste.ts';

const page = 'docs/operations.md';
const password = 'correct horse battery staple';
const secret = 'Jc0wq2VtR8nYb5KxUe7ZsPd1LfGh4MaT6oQi9WuE3vA=';
const [backUpSqlite, backUpPostgres] = readBlocks(page, 'Backups', 'sh');
const [restoreSqlite, restorePostgres, repeat] = readBlocks(page, 'Restoring', 'sh');
const closed = ['eve@example.com', 'former@example.com'];
const hasPgDump = ['/usr/bin/pg_dump', '/usr/local/bin/pg_dump'].some((path) => existsSync(path));

type Environment = Record<string, string> & { DATA_DIR: string };

/** Makes the folder of a service, with one for its backups. */
function prepare(scratch: Environment): Environment & { BACKUPS: string } {
  const environment = { ...scratch, SECRET_KEY: secret, BACKUPS: join(scratch.DATA_DIR, 'backups') };
  mkdirSync(environment.BACKUPS);
  makeServiceFolder(scratch.DATA_DIR);
  return environment;
}

const logIn = (program: Program, email: string): Promise<Answer> => post(program, '/auth/login', { email, password });
const refresh = (program: Program, { body }: Answer): Promise<Answer> =>
  post(program, '/auth/refresh', { refresh_token: body.refresh_token });

for (const backend of backends) {
  const isSqlite = backend === 'sqlite+memory';
  const skip = !isSqlite && !hasPgDump && 'pg_dump is not installed';
  test(
    `a backup that is made and restored as the page says undoes what came after, and nothing else (${backend})`,
    {
      skip,
    },
    () =>
      inScratch(async (scratch) => {
        const environment = prepare(scratch);
        const sessions = await whileRunning(environment, (program) => live(program, environment, isSqlite));
        await restore(backend, environment, (restored) =>
          whileRunning(restored, (program) => assertUndone(program, restored, sessions)),
        );
      }, backend),
  );
}

type Sessions = { eve: Answer; exchanged: Answer };

/** Makes a backup, and goes on living. */
async function live(program: Program, environment: Environment, isSqlite: boolean): Promise<Sessions> {
  const ada = await register(program, 'ada@example.com', password);
  const eve = await register(program, 'eve@example.com', password);
  await register(program, 'former@example.com', password);
  await paste((isSqlite ? backUpSqlite : backUpPostgres) ?? '', environment.DATA_DIR, environment);
  const exchanged = await refresh(program, ada);
  assert.equal(exchanged.status, 200);
  await paste(repeat ?? '', environment.DATA_DIR, environment);
  for (const email of closed) assert.equal((await logIn(program, email)).status, 401, email);
  await register(program, 'late@example.com', password);
  return { eve, exchanged };
}

/** Everything is as it was at the backup, and what came after can be repeated. */
async function assertUndone(program: Program, environment: Environment, { eve, exchanged }: Sessions): Promise<void> {
  for (const email of ['ada@example.com', ...closed]) assert.equal((await logIn(program, email)).status, 200, email);
  assert.equal((await logIn(program, 'late@example.com')).status, 401);
  assert.equal((await refresh(program, eve)).status, 200, 'the session that was ended is alive again');
  const fromTheFuture = await refresh(program, exchanged);
  assert.deepEqual([fromTheFuture.status, fromTheFuture.body.code], [401, 'invalid_refresh_token']);
  await paste(repeat ?? '', environment.DATA_DIR, environment);
  assert.equal((await logIn(program, 'ada@example.com')).status, 200);
  for (const email of closed) assert.equal((await logIn(program, email)).status, 401, email);
}

async function restore(
  backend: (typeof backends)[number],
  environment: Environment,
  check: (restored: Environment) => Promise<void>,
): Promise<void> {
  if (backend === 'sqlite+memory') {
    const findings = await paste(restoreSqlite ?? '', environment.DATA_DIR, environment);
    assert.match(findings, /database/i);
    return check(environment);
  }
  return inScratch(async ({ DATABASE_URL = '', REDIS_URL = '' }) => {
    const restored = { ...environment, DATABASE_URL, REDIS_URL };
    await paste(restorePostgres ?? '', environment.DATA_DIR, restored);
    await check(restored);
  }, backend);
}

test('what an upgrade would change in the tables is said while the old version serves', () =>
  inScratch(async (scratch) => {
    const environment = prepare(scratch as Environment);
    const [check = ''] = readBlocks(page, 'Upgrading', 'sh');
    await whileRunning(environment, async (program) => {
      await paste(check, environment.DATA_DIR, environment);
      assert.equal((await get(program, '/health/ready')).status, 200);
    });
    const pending = { ...environment, DATABASE_URL: `sqlite:${join(environment.BACKUPS, 'empty.db')}` };
    await assert.rejects(paste(check, environment.DATA_DIR, pending), { code: 3 });
  }));
