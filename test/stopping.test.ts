import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { goodPassword, newEmail } from './accounts.ts';
import { type MailServer, readHeaders, startMailServer } from './mail-server.ts';
import { type Program, post, register, startProgram } from './program.ts';
import { inScratch, readSqlite } from './scratch.ts';
import { startScriptedMailServer } from './scripted-mail-server.ts';
import { until } from './until.ts';

const exitLimitMs = 9_500;

/** Stops the program as an orchestrator does, which kills after ten seconds. */
async function stop(program: Program): Promise<number> {
  const { code, signal, afterMs } = await program.stop('SIGTERM');
  assert.deepEqual([code, signal], [0, null], program.output());
  assert.ok(afterMs < exitLimitMs, `it took ${afterMs} ms`);
  return afterMs;
}

async function sendCode(program: Program): Promise<string> {
  const email = newEmail();
  assert.equal((await post(program, '/auth/send-code', { email, purpose: 'registration' })).status, 202);
  return email;
}

const recipientsOf = (server: MailServer) => server.received.flatMap(({ to }) => to);

describe('SIGTERM while a mail is on its way', () => {
  test('waits for the answer of the mail server, so that the mail is sent once', () =>
    inScratch(async (scratch) => {
      const arrived = Promise.withResolvers<void>();
      const server = await startMailServer({
        onData(_stream, _session, done) {
          arrived.resolve();
          setTimeout(done, 1_000);
        },
      });
      const program = await startProgram({ ...scratch, SMTP_URL: server.url });
      const email = await sendCode(program);
      await arrived.promise;
      await stop(program);
      const next = await startProgram({ ...scratch, SMTP_URL: server.url });
      await sendCode(next);
      await until(() => server.received.length === 2);
      assert.equal(recipientsOf(server).filter((to) => to === email).length, 1);
      await stop(next);
      await server.stop();
    }));

  test('gives a mail back that the server does not answer for, and the next process sends the same at once', () =>
    inScratch(async (scratch) => {
      const silent = await startScriptedMailServer({ message: { act: 'hang' } });
      const program = await startProgram({ ...scratch, SMTP_URL: silent.url });
      const email = await sendCode(program);
      await until(() => silent.steps.includes('message'));
      const [row] = readSqlite(join(scratch.DATA_DIR, 'latchkey.db'), 'select id from outbox');
      await stop(program);
      silent.stop();
      const server = await startMailServer();
      const next = await startProgram({ ...scratch, SMTP_URL: server.url });
      await until(() => server.received.length === 1);
      assert.deepEqual(recipientsOf(server), [email]);
      // Whether the first server took it nobody can know; a receiver can tell by this that it is the same.
      assert.deepEqual(readHeaders(server.received[0]?.data ?? '').get('message-id'), [`<${row?.id}@localhost>`]);
      await stop(next);
      assert.deepEqual(readSqlite(join(scratch.DATA_DIR, 'latchkey.db'), 'select id from outbox'), []);
      await server.stop();
    }));

  test('ends at once while it only looks whether the mail server is there', () =>
    inScratch(async (scratch) => {
      const silent = await startScriptedMailServer({ greeting: { act: 'hang' } });
      const program = await startProgram({ ...scratch, SMTP_URL: silent.url });
      await until(() => silent.steps.includes('greeting'));
      assert.ok((await stop(program)) < 2_000);
      silent.stop();
    }));
});

describe('SIGTERM while the queue of password checks is full', () => {
  test('answers what was admitted with the truth, refuses what was not, and ends in time', () =>
    inScratch(async (scratch) => {
      const environment = { ...scratch, HASH_THREADS: '1', HASH_QUEUE_MAX: '3', BCRYPT_COST: '11' };
      const program = await startProgram(environment);
      const email = newEmail();
      assert.equal((await register(program, email, goodPassword)).status, 201);
      let answered = 0;
      const logIn = async (password: string) => {
        const answer = await post(program, '/auth/login', { email, password });
        answered += 1;
        return answer;
      };
      const logins = Array.from({ length: 12 }, (_, index) => logIn(index % 2 === 0 ? goodPassword : 'wrong'));
      // One is checked and three wait. All have arrived when the others are refused.
      await until(() => answered >= 8);
      await stop(program);
      const statuses = (await Promise.all(logins)).map(({ status }) => status);
      const admitted = statuses.filter((status) => status !== 503);
      assert.ok(admitted.length >= 4, `${statuses}`);
      for (const [index, status] of statuses.entries()) {
        assert.ok([503, index % 2 === 0 ? 200 : 401].includes(status), `${statuses}`);
      }
    }));

  test('cuts off what would take too long, and ends in time', () =>
    inScratch(async (scratch) => {
      const environment = { ...scratch, HASH_THREADS: '1', HASH_QUEUE_MAX: '100', BCRYPT_COST: '14' };
      const program = await startProgram(environment);
      const email = newEmail();
      const logins = Array.from({ length: 101 }, () => post(program, '/auth/login', { email, password: 'x' }));
      const answers = Promise.allSettled(logins);
      await sleep(500);
      await stop(program);
      const statuses = (await answers).map((answer) => (answer.status === 'fulfilled' ? answer.value.status : 'cut'));
      assert.ok(statuses.includes('cut'), `${statuses}`);
      assert.ok(
        statuses.every((status) => status === 'cut' || status === 401 || status === 503),
        `${statuses}`,
      );
    }));

  test('lets a client that went away go, and its check with it', () =>
    inScratch(async (scratch) => {
      const program = await startProgram({ ...scratch, HASH_THREADS: '1', BCRYPT_COST: '13' });
      const controller = new AbortController();
      const gone = Array.from({ length: 20 }, () =>
        fetch(`${program.origin}/auth/login`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ email: newEmail(), password: 'x' }),
          signal: controller.signal,
        }).catch(() => {}),
      );
      await sleep(300);
      controller.abort();
      await Promise.all(gone);
      assert.ok((await stop(program)) < 5_000);
    }));
});
