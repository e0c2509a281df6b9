import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { goodPassword, newEmail } from '../accounts.ts';
import { type Answer, get, type Program, post, register, send, startProgram } from '../program.ts';
import { createScratch } from '../system.ts';
import { reasonToSkipLong } from '../thorough.ts';
import { strikeUnderLoad } from './mixed-load.ts';
import { failCalls, reasonToSkipStrace } from './strace.ts';
import { withTrial } from './trial.ts';

type User = { email: string; accessToken: string; refreshToken: string };
/** One user, whose name counts the writes that were acknowledged. */
type Scene = { program: Program; user: User; log: string; restart(): Promise<Program> };
type Files = { file: string; log: string };

// A start and a registration need fewer; each commit makes one call, or ten of pwrite64.
const firstSync = 40;
const firstWrite = 400;
const fileLimitBytes = 1_000_000;
// SQLite brings the log into the file, and begins it anew, every thousand pages.
const usualLogBytes = 4_500_000;

describe('when the disk fails SQLite', { skip: reasonToSkipStrace() }, () => {
  for (const { title, calls, error, first } of [
    { title: 'syncs nothing any more', calls: 'fsync,fdatasync', error: 'EIO', first: firstSync },
    { title: 'is full', calls: 'pwrite64', error: 'ENOSPC', first: firstWrite },
    { title: 'cannot be written', calls: 'pwrite64', error: 'EIO', first: firstWrite },
  ] as const) {
    test(`a disk that ${title} makes every write a 503 and no read wrong, and is used again when it works`, () =>
      inScene(({ log }) => failCalls({ calls, error, files: [log], first, last: first + 80 }), sufferAndHeal));
  }

  for (const [title, write, isUndone] of [
    [
      'a transaction',
      (scene: Scene) => rename(scene, 'refused'),
      async (program: Program, { accessToken }: User, name: string) =>
        (await get(program, '/users/me', accessToken)).body.name === name,
    ],
    [
      'a single statement',
      ({ program, user }: Scene) => post(program, '/auth/refresh', { refresh_token: user.refreshToken }),
      async (program: Program, { refreshToken }: User) =>
        // Of the grace nothing is left: a token that had been replaced would be refused.
        (await post(program, '/auth/refresh', { refresh_token: refreshToken })).status === 200,
    ],
  ] as const) {
    test(`${title} that was refused because the disk failed has not happened after a kill -9 either`, () =>
      inScene(
        ({ log }) => failCalls({ calls: 'fsync,fdatasync', error: 'EIO', files: [log], first: firstSync }),
        async (scene) => {
          const name = await renameUntil(scene, 503);
          assert.equal((await write(scene)).status, 503);
          await scene.program.stop('SIGKILL');
          const restarted = await scene.restart();
          assert.equal(await isUndone(restarted, scene.user, name), true);
        },
      ));
  }

  test('a log that cannot be brought into the database file keeps everything, and goes on growing meanwhile', () =>
    inScene(
      ({ file }) => failCalls({ calls: 'fsync,fdatasync', error: 'EIO', files: [file], first: 2 }),
      async (scene) => {
        const name = await renameTimes(scene, 300);
        assert.ok(statSync(scene.log).size > usualLogBytes, `the log holds ${statSync(scene.log).size} bytes`);
        await scene.program.stop('SIGKILL');
        const restarted = await scene.restart();
        assert.equal((await get(restarted, '/users/me', scene.user.accessToken)).body.name, name);
      },
    ));

  for (const { title, calls, error, first, step } of [
    { title: 'syncs', calls: 'fsync,fdatasync', error: 'EIO', first: 20, step: 5 },
    { title: 'writes', calls: 'pwrite64', error: 'ENOSPC', first: 200, step: 47 },
  ] as const) {
    // Of the two kinds of failure a quick run plays the one that has an own way through SQLite.
    const skip = title === 'writes' && reasonToSkipLong;
    test(`where ${title} fail now and then under load until a kill -9, nothing acknowledged is lost and nothing refused is kept`, {
      skip,
    }, (t) => {
      const wrapper = (dataDir: string) => {
        const { file, log } = filesOf(dataDir);
        return failCalls({ calls, error, files: [file, log], first, step });
      };
      // A mail that was sent and whose row could not be removed is sent again.
      return withTrial(t, { wrapper, mailMayRepeat: true }, async ({ ledger, environment, check, countWrites }) => {
        for (let kill = 1; kill <= 2; kill += 1) {
          if (kill > 1) ledger.program = await startProgram(environment, wrapper(environment.DATA_DIR));
          ledger.meaningOf503 = 'refused';
          await strikeUnderLoad(ledger, 150, () => ledger.program.stop('SIGKILL'));
          // Nothing fails the inspection.
          ledger.program = await startProgram(environment);
          ledger.isCrashing = false;
          ledger.meaningOf503 = 'fault';
          await check(`after kill ${kill}`);
          await ledger.program.stop('SIGTERM');
        }
        const refused = ledger.acts.filter(({ outcome }) => outcome === 'refused').length;
        t.diagnostic(`measured: ${countWrites()} acknowledged writes checked, and ${refused} refused ones`);
        assert.ok(refused > 10, `the failures were felt: ${refused}`);
      });
    });
  }
});

describe('when a file may not grow', {
  skip: process.platform !== 'linux' && 'only Linux can limit a running process',
}, () => {
  // A write that crosses the limit is cut short, and the next one fails.
  test('every write is a 503 and no read wrong, and it is used again when it may', () =>
    inScene(
      () => ['prlimit', `--fsize=${fileLimitBytes}:unlimited`],
      (scene) =>
        sufferAndHeal(scene, () => {
          execFileSync('prlimit', ['--pid', String(scene.program.pid), '--fsize=unlimited']);
        }),
    ));
});

/** Shows what the service does from the first failure on, when the disk works again, and after a kill -9. */
async function sufferAndHeal(scene: Scene, heal: () => void = () => {}): Promise<void> {
  const { program, user } = scene;
  const name = await renameUntil(scene, 503);
  const writes = [
    () => rename(scene, 'refused'),
    () => post(program, '/auth/login', { email: user.email, password: goodPassword }),
    () => post(program, '/auth/refresh', { refresh_token: user.refreshToken }),
    () => post(program, '/auth/logout', { refresh_token: user.refreshToken }),
    () => post(program, '/auth/send-code', { email: newEmail(), purpose: 'registration' }),
  ];
  for (const write of writes) {
    const { status, body } = await write();
    assert.deepEqual([status, body?.code], [503, 'temporarily_unavailable']);
    assert.equal((await get(program, '/users/me', user.accessToken)).body.name, name);
  }
  heal();
  await renameUntil(scene, 200);
  const newest = await renameTimes(scene, 20);
  const refreshed = await post(program, '/auth/refresh', { refresh_token: user.refreshToken });
  assert.equal(refreshed.status, 200);
  await program.stop('SIGKILL');
  const restarted = await scene.restart();
  assert.equal((await get(restarted, '/users/me', user.accessToken)).body.name, newest);
  const next = await post(restarted, '/auth/refresh', { refresh_token: refreshed.body.refresh_token });
  assert.equal(next.status, 200);
}

async function inScene(wrapper: (files: Files) => string[], play: (scene: Scene) => Promise<void>): Promise<void> {
  await using resources = new AsyncDisposableStack();
  const { environment, remove } = await createScratch('sqlite+memory');
  resources.defer(remove);
  const start = async (under?: string[]) => {
    const program = await startProgram({ ...environment, REFRESH_REUSE_GRACE_SECONDS: '0' }, under);
    resources.defer(async () => void (await program.stop('SIGKILL')));
    return program;
  };
  const files = filesOf(environment.DATA_DIR ?? '');
  const program = await start(wrapper(files));
  const email = newEmail();
  const { body } = await register(program, email, goodPassword);
  const user = { email, accessToken: body.access_token, refreshToken: body.refresh_token };
  await play({ program, user, log: files.log, restart: () => start() });
}

function filesOf(dataDir: string): Files {
  const file = join(dataDir, 'latchkey.db');
  return { file, log: `${file}-wal` };
}

function rename({ program, user }: Scene, name: string): Promise<Answer> {
  return send(program, { method: 'PATCH', path: '/users/me', token: user.accessToken, body: { name } });
}

/** Renames the user until the answer is the awaited one. Returns the last name that was acknowledged. */
async function renameUntil(scene: Scene, status: 200 | 503): Promise<string> {
  let acknowledged = '';
  for (let turn = 1; turn <= 300; turn += 1) {
    const name = `name ${turn}`;
    const answer = await rename(scene, name);
    assert.ok([200, 503].includes(answer.status), `${answer.status} ${JSON.stringify(answer.body)}`);
    if (answer.status === 200) acknowledged = name;
    if (answer.status === status) return acknowledged;
  }
  throw new Error(`no rename was answered ${status}`);
}

/** Renames the user so many times, each of which must succeed. Returns the last name. */
async function renameTimes(scene: Scene, times: number): Promise<string> {
  for (let turn = 1; turn <= times; turn += 1) assert.equal((await rename(scene, `turn ${turn}`)).status, 200);
  return `turn ${times}`;
}
