import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { goodPassword, newEmail } from './accounts.ts';
import { newSecret } from './config.ts';
import { failStart, get, post, register, startProgram } from './program.ts';
import { inScratch, readSqlite } from './scratch.ts';
import { backends } from './system.ts';
import { until } from './until.ts';

const json = 'Content-Type: application/json';

describe('the start', () => {
  test('in development says where the service, its documentation and its mailbox are', () =>
    inScratch(async (scratch) => {
      const program = await startProgram({ ...scratch, PUBLIC_URL: 'http://localhost:8123' });
      await until(() => program.output().includes('development mailbox'));
      assert.match(program.output(), /^ {2}Latchkey is ready at http:\/\/localhost:8123$/m);
      assert.match(program.output(), /^ {2}documentation {7}http:\/\/localhost:8123\/docs$/m);
      assert.match(program.output(), /^ {2}development mailbox http:\/\/localhost:8123\/dev\/mailbox$/m);
      assert.doesNotMatch(program.output(), /WARNING/);
      await program.stop('SIGTERM');
    }));

  test('in development warns when the mailbox is open to the network, and has none under a public name', () =>
    inScratch(async (scratch) => {
      const open = await startProgram({ ...scratch, HOST: '0.0.0.0' });
      await until(() => open.output().includes('WARNING'));
      assert.match(open.output(), /HOST is 0\.0\.0\.0, so whoever reaches this port can read every code/);
      assert.match(open.output(), /NODE_ENV=production is missing/);
      await open.stop('SIGTERM');
      const named = await startProgram({ ...scratch, PUBLIC_URL: 'https://auth.example.com' });
      await until(() => named.output().includes('WARNING'));
      assert.match(named.output(), /NODE_ENV=production is missing/);
      assert.equal((await get(named, '/dev/mailbox')).status, 404);
      await named.stop('SIGTERM');
    }));

  test('in production is refused with everything that is missing at once, and without a stack', () =>
    inScratch(async (scratch) => {
      const { code, output } = await failStart({ ...scratch, NODE_ENV: 'production', BCRYPT_COST: '12' });
      assert.equal(code, 1);
      assert.deepEqual(output.trim().split('\n'), [
        'The configuration is not usable:',
        '  - SECRET_KEY is required in production',
        '  - PUBLIC_URL is required in production',
        '  - SMTP_URL is required in production',
        '  - MAIL_FROM is required in production',
        '  - RATE_LIMITS must not be off in production',
      ]);
    }));

  test('under another SECRET_KEY is refused in a sentence', () =>
    inScratch(async (scratch) => {
      const first = await startProgram({ ...scratch, SECRET_KEY: newSecret() });
      await first.stop('SIGTERM');
      const { code, output } = await failStart({ ...scratch, SECRET_KEY: newSecret() });
      assert.equal(code, 1);
      assert.match(output, /^SECRET_KEY is not the one that this database was made with: .+\n$/);
    }));

  test('of several processes on one empty folder gives all the same secret', () =>
    inScratch(async (scratch) => {
      // Each with a database of its own, so that only the secret is shared.
      const programs = await Promise.all(
        [1, 2, 3, 4].map((index) =>
          startProgram({ ...scratch, DATABASE_URL: `sqlite:${scratch.DATA_DIR}/${index}.db` }),
        ),
      );
      await Promise.all(programs.map((program) => program.stop('SIGTERM')));
      const fingerprints = [1, 2, 3, 4].map((index) => {
        const rows = readSqlite(join(scratch.DATA_DIR, `${index}.db`), 'select fingerprint from secret_fingerprints');
        return JSON.stringify(rows);
      });
      assert.equal(new Set(fingerprints).size, 1);
    }));

  for (const backend of backends) {
    test(`on a port that is in use says so and ends, with every connection that it had made (${backend})`, () =>
      inScratch(async (scratch) => {
        const { server, port } = await listenOn();
        const { code, afterMs, output } = await failStart({ ...scratch, PORT: String(port) });
        assert.equal(code, 1);
        const sentence = `PORT: ${port} is in use already on 127.0.0.1. Stop the other program, or set another PORT.`;
        assert.equal(output, `Latchkey could not start. ${sentence}\n`);
        assert.ok(afterMs < 5_000, `it took ${afterMs} ms`);
        server.close();
      }, backend));
  }

  test('that fails names the variable to mend, and shows the cause to whoever asks for it', () =>
    inScratch(async (scratch) => {
      const notDatabase = join(scratch.DATA_DIR, 'notes.txt');
      writeFileSync(notDatabase, 'no database, but long enough to be read as one'.repeat(100));
      const locked = join(scratch.DATA_DIR, 'locked.db');
      const holder = new DatabaseSync(locked);
      holder.exec('create table t (a); begin exclusive');
      const { server, port: closedPort } = await listenOn();
      server.close();
      const refusedUrl = `postgres://user:hunter2@127.0.0.1:${closedPort}/x`;
      const cases: [Record<string, string>, RegExp][] = [
        [{ DATABASE_URL: refusedUrl }, /^.+ DATABASE_URL: PostgreSQL does not answer \(ECONNREFUSED\)\. .+\n$/],
        [{ DATABASE_URL: `sqlite:${notDatabase}` }, /^.+ DATABASE_URL: the file is not a SQLite database\.\n$/],
        [
          { DATABASE_URL: `sqlite:${locked}` },
          /^.+ DATABASE_URL: another process keeps the SQLite file locked\. .+\n$/,
        ],
        [
          { DATABASE_URL: `sqlite:${notDatabase}/x.db` },
          /^.+ DATABASE_URL, or DATA_DIR: .+ cannot be used \(\w+\)\.\n$/,
        ],
        [{ HOST: '192.0.2.1' }, /^.+ HOST: 192\.0\.2\.1 is not an address of this machine\.\n$/],
        [{ DATABASE_URL: refusedUrl, LOG_LEVEL: 'debug' }, /ECONNREFUSED.+"the start failed"/],
      ];
      const outcomes = await Promise.all(cases.map(([environment]) => failStart({ ...scratch, ...environment })));
      for (const [index, { code, output }] of outcomes.entries()) {
        assert.equal(code, 1);
        assert.match(output, cases[index]?.[1] ?? /^$/);
        assert.doesNotMatch(output, /hunter2/);
      }
      holder.close();
    }));
});

describe('the log', () => {
  test('names the code of what failed, and the code that the caller got', () =>
    inScratch(async (scratch) => {
      const { server, port } = await listenOn();
      server.close();
      const program = await startProgram({ ...scratch, REDIS_URL: `redis://127.0.0.1:${port}` });
      const { status } = await post(program, '/auth/send-code', { email: newEmail(), purpose: 'registration' });
      assert.equal(status, 503);
      await until(() => program.output().includes('"request failed"'));
      await program.stop('SIGTERM');
      assert.match(program.output(), /"code":"ECONNREFUSED"/);
      assert.match(program.output(), /"error_code":"temporarily_unavailable"/);
    }));
});

describe('SIGTERM', () => {
  test('lets a login that is being checked finish with its real answer, and takes no new connection', () =>
    inScratch(async (scratch) => {
      const program = await startProgram({ ...scratch, BCRYPT_COST: '13' });
      const email = newEmail();
      assert.equal((await register(program, email, goodPassword)).status, 201);
      const login = post(program, '/auth/login', { email, password: goodPassword });
      // Long enough to arrive, and much shorter than a hash at this cost.
      await sleep(50);
      const ending = program.stop('SIGTERM');
      await until(() => program.output().includes('stopping'));
      await assert.rejects(once(connect({ host: '127.0.0.1', port: program.port }), 'connect'));
      assert.equal((await login).status, 200);
      const { code, signal, afterMs } = await ending;
      assert.deepEqual([code, signal], [0, null]);
      assert.ok(afterMs < 5_000, `it took ${afterMs} ms`);
    }));

  test('ends an idle process at once, also one that clients keep connections to', () =>
    inScratch(async (scratch) => {
      const program = await startProgram(scratch);
      const silent = connect({ host: '127.0.0.1', port: program.port });
      await once(silent, 'connect');
      await get(program, '/health/live');
      const { code, afterMs } = await program.stop('SIGINT');
      assert.equal(code, 0);
      assert.ok(afterMs < 2_000, `it took ${afterMs} ms`);
    }));

  test('ends with 0 within ten seconds whatever hangs, and gives the mail under way to the next process', () =>
    inScratch(async (scratch) => {
      const connections: string[] = [];
      // A mail server that takes the connection and never says a word.
      const { server, port } = await listenOn(() => connections.push('smtp'));
      const program = await startProgram({
        ...scratch,
        SMTP_URL: `smtp://127.0.0.1:${port}`,
        BCRYPT_COST: '14',
        HASH_THREADS: '1',
      });
      const email = newEmail();
      await post(program, '/auth/send-code', { email, purpose: 'registration' });
      await until(() => connections.length > 0);
      const start = `POST /auth/login HTTP/1.1\r\nHost: localhost\r\n${json}\r\n`;
      const halves = [start, `${start}Content-Length: 100\r\n\r\n{"email":`].map((bytes) => {
        const socket = connect({ host: '127.0.0.1', port: program.port }).on('error', () => {});
        socket.write(bytes);
        return once(socket, 'close');
      });
      const logins = Array.from({ length: 30 }, () => post(program, '/auth/login', { email, password: 'x' }));
      const answers = Promise.allSettled(logins);
      await sleep(300);
      const { code, signal, afterMs } = await program.stop('SIGTERM');
      assert.deepEqual([code, signal], [0, null]);
      assert.ok(afterMs < 9_500, `it took ${afterMs} ms`);
      await Promise.all([...halves, answers]);
      const [row] = readSqlite(join(scratch.DATA_DIR, 'latchkey.db'), 'select next_attempt_at from outbox');
      assert.ok(Number(row?.next_attempt_at) <= Date.now(), 'the lease must have been given back');
      server.close();
    }));
});

async function listenOn(onConnection: () => void = () => {}): Promise<{ server: Server; port: number }> {
  const server = createServer(onConnection).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, port: (server.address() as AddressInfo).port };
}
