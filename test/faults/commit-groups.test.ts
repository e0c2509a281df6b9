import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { goodPassword, newEmail } from '../accounts.ts';
import { sendSignal } from '../processes.ts';
import { type Answer, get, type Program, post, register, send, startProgram } from '../program.ts';
import { countCommits } from '../sqlite-log.ts';
import { createScratch } from '../system.ts';
import { failCalls, reasonToSkipStrace } from './strace.ts';

/** Refresh tokens of as many sessions, none of which has been used. */
type Scene = { program: Program; accessToken: string; tokens: string[]; file: string; restart(): Promise<Program> };

const sessions = 32;
// A start, a registration and the logins need fewer: each commit makes one call.
const firstFailure = 120;

describe('refreshes that come at the same time, on SQLite', () => {
  test('are committed together, and each is on the disk when it is acknowledged', () =>
    inScene([], async ({ program, tokens, file, restart }) => {
      const before = countCommits(file);
      const answers = await sendAtOnce(program, tokens);
      // After the kill what was acknowledged is what the log holds.
      await program.stop('SIGKILL');
      const commits = countCommits(file) - before;
      assert.ok(commits > 0 && commits <= sessions / 4, `${sessions} refreshes were ${commits} commits`);
      const restarted = await restart();
      const successors = answers.map(({ status, body }) => {
        assert.equal(status, 200);
        return body.refresh_token as string;
      });
      assert.deepEqual(await refreshAll(restarted, successors), allAnswered(200));
      const [replaced] = tokens;
      assert.equal((await post(restarted, '/auth/refresh', { refresh_token: replaced })).status, 401);
    }));

  const skip = reasonToSkipStrace();

  test(
    'are none of them acknowledged and none of them kept when the disk fails, and succeed when it works again',
    {
      skip,
    },
    () =>
      inScene(failSyncs, async ({ program, accessToken, tokens, restart }) => {
        await renameUntil(program, accessToken, 503);
        assert.deepEqual(statusesOf(await sendAtOnce(program, tokens)), allAnswered(503));
        await renameUntil(program, accessToken, 200);
        // There is no grace: a token that had been replaced would be refused.
        const answers = await sendAtOnce(program, tokens);
        assert.deepEqual(statusesOf(answers), allAnswered(200));
        await program.stop('SIGKILL');
        const successors = answers.map(({ body }) => body.refresh_token as string);
        assert.deepEqual(await refreshAll(await restart(), successors), allAnswered(200));
      }),
  );

  test('are none of them kept after a kill -9 on the failing disk either', { skip }, () =>
    inScene(failSyncs, async ({ program, accessToken, tokens, restart }) => {
      await renameUntil(program, accessToken, 503);
      assert.deepEqual(statusesOf(await sendAtOnce(program, tokens)), allAnswered(503));
      await program.stop('SIGKILL');
      assert.deepEqual(await refreshAll(await restart(), tokens), allAnswered(200));
    }),
  );
});

async function inScene(
  wrapper: readonly string[] | ((log: string) => string[]),
  play: (scene: Scene) => Promise<void>,
): Promise<void> {
  await using resources = new AsyncDisposableStack();
  const { environment, remove } = await createScratch('sqlite+memory');
  resources.defer(remove);
  const file = join(environment.DATA_DIR ?? '', 'latchkey.db');
  const start = async (under?: readonly string[]) => {
    const program = await startProgram(
      { ...environment, REFRESH_REUSE_GRACE_SECONDS: '0', SESSIONS_PER_USER_MAX: '100' },
      under,
    );
    resources.defer(async () => void (await program.stop('SIGKILL')));
    return program;
  };
  const program = await start(typeof wrapper === 'function' ? wrapper(`${file}-wal`) : wrapper);
  const email = newEmail();
  const { body } = await register(program, email, goodPassword);
  const tokens: string[] = [];
  while (tokens.length < sessions) {
    const answer = await post(program, '/auth/login', { email, password: goodPassword });
    assert.equal(answer.status, 200);
    tokens.push(answer.body.refresh_token);
  }
  await play({ program, accessToken: body.access_token, tokens, file, restart: () => start() });
}

function failSyncs(log: string): string[] {
  return failCalls({
    calls: 'fsync,fdatasync',
    error: 'EIO',
    files: [log],
    first: firstFailure,
    last: firstFailure + 80,
  });
}

/** Refreshes with every token while the program stands still, so that it finds them all when it goes on. */
async function sendAtOnce(program: Program, tokens: readonly string[]): Promise<Answer[]> {
  // The connections are there already: of new ones the program takes in one at a time.
  await Promise.all(tokens.map(() => get(program, '/health/live')));
  sendSignal(program.pid, 'SIGSTOP');
  const sent = tokens.map((token) => post(program, '/auth/refresh', { refresh_token: token }));
  setTimeout(() => sendSignal(program.pid, 'SIGCONT'), 200);
  return Promise.all(sent);
}

async function refreshAll(program: Program, tokens: readonly string[]): Promise<number[]> {
  return statusesOf(await Promise.all(tokens.map((token) => post(program, '/auth/refresh', { refresh_token: token }))));
}

function statusesOf(answers: readonly Answer[]): number[] {
  return answers.map(({ status }) => status);
}

function allAnswered(status: number): number[] {
  return Array(sessions).fill(status);
}

/** Renames the user until the answer is the awaited one. */
async function renameUntil(program: Program, token: string, status: 200 | 503): Promise<void> {
  for (let turn = 1; turn <= 300; turn += 1) {
    const answer = await send(program, { method: 'PATCH', path: '/users/me', token, body: { name: `name ${turn}` } });
    assert.ok([200, 503].includes(answer.status), `${answer.status} ${JSON.stringify(answer.body)}`);
    if (answer.status === status) return;
  }
  throw new Error(`no rename was answered ${status}`);
}
