import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { logIn, newEmail, readMe, registerUser, sendCode, type TestUser } from '../accounts.ts';
import { assertProblem, call } from '../client.ts';
import { type System, startSystem } from '../system.ts';

const longestPauseMs = 500;

describe('when another process holds SQLite’s lock', () => {
  let system: System;
  let user: TestUser;
  let holder: ChildProcess | undefined;

  before(async () => {
    system = await startSystem('sqlite+memory');
    user = await registerUser(system);
  });

  after(async () => {
    holder?.kill('SIGKILL');
    await system?.close();
  });

  test('writes wait for it and succeed, and meanwhile the process answers and reads', async () => {
    const lock = await holdLock(1_500);
    const startedAtMs = performance.now();
    const writes = [
      logIn(system, user.email, user.password),
      call(system, { method: 'PATCH', path: '/users/me', token: user.accessToken, body: { name: 'Ada' } }),
      sendCode(system, newEmail(), 'registration'),
    ];
    const watch = watchAnswers();
    const replies = await Promise.all(writes);
    const waitedMs = performance.now() - startedAtMs;
    assert.deepEqual(
      replies.map(({ status }) => status),
      [200, 200, 202],
    );
    assert.ok(waitedMs > 1_000, `the lock was in the way; waited ${waitedMs} ms`);
    const { answers, longestMs } = await watch.stop();
    assert.ok(answers > 10 && longestMs < longestPauseMs, `${answers} answers, the slowest after ${longestMs} ms`);
    await lock.released;
  });

  test('a lock that outlasts the wait is a 503 for all who waited, at the same time and not one after the other', async () => {
    const lock = await holdLock(30_000);
    const startedAtMs = performance.now();
    const watch = watchAnswers();
    const replies = await Promise.all(Array.from({ length: 10 }, () => logIn(system, user.email, user.password)));
    const waitedMs = performance.now() - startedAtMs;
    const { longestMs } = await watch.stop();
    for (const reply of replies) assertProblem(reply, 'temporarily_unavailable');
    assert.ok(waitedMs > 4_500 && waitedMs < 8_000, `waited ${waitedMs} ms`);
    assert.ok(longestMs < longestPauseMs, `the slowest answer took ${longestMs} ms`);
    // The kernel drops the lock of a process that dies.
    lock.kill();
    await lock.released;
    assert.equal((await logIn(system, user.email, user.password)).status, 200);
  });

  /** Takes the write lock in another process; `released` resolves when that process has ended. */
  async function holdLock(holdMs: number) {
    const path = join(system.deps.config.environment.DATA_DIR, 'latchkey.db');
    const code = `
      const database = new (require('node:sqlite').DatabaseSync)(process.argv[1]);
      database.exec('begin immediate');
      console.log('locked');
      setTimeout(() => database.exec('commit'), Number(process.argv[2]));`;
    const child = spawn(process.execPath, ['-e', code, path, String(holdMs)], { stdio: ['ignore', 'pipe', 'inherit'] });
    holder = child;
    const released = once(child, 'exit');
    await once(child.stdout, 'data');
    return { released, kill: () => child.kill('SIGKILL') };
  }

  /** Asks again and again whether the process is alive and reads an account; tells how long that took at most. */
  function watchAnswers() {
    let isStopping = false;
    let answers = 0;
    let longestMs = 0;
    const done = (async () => {
      while (!isStopping) {
        const startedAtMs = performance.now();
        await sleep(20);
        const live = await call(system, { method: 'GET', path: '/health/live' });
        const me = await readMe(system, user.accessToken);
        assert.deepEqual([live.status, me.status], [200, 200]);
        answers += 1;
        longestMs = Math.max(longestMs, performance.now() - startedAtMs);
      }
    })();
    return {
      async stop() {
        isStopping = true;
        await done;
        return { answers, longestMs };
      },
    };
  }
});
