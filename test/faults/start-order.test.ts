import assert from 'node:assert/strict';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, describe, test } from 'node:test';
import { newSecret } from '../config.ts';
import { findFreePort } from '../ports.ts';
import { failStart, get, launchProgram } from '../program.ts';
import { inScratch } from '../scratch.ts';
import { until } from '../until.ts';
import { type PrivateServer, reasonToSkip, startPostgres } from './servers.ts';

// Another process starts meanwhile, beside three other files.
const waitLimitMs = 30_000;
const longWait = { DATABASE_START_WAIT_SECONDS: '60' };
// Runs in the program before its first line, and prints when that asks for the signal.
const tellOfHandler = encodeURIComponent(
  `process.on('newListener', (name) => name === 'SIGTERM' && console.log('handler'))`,
);

describe('the order of starting', { skip: reasonToSkip('postgres') }, () => {
  let server: PrivateServer;

  before(async () => {
    server = await startPostgres({ access: ['host all all 127.0.0.1/32 scram-sha-256'] });
  });

  after(() => server?.remove());

  test('does not matter: a PostgreSQL that comes later is waited for, with a warning at once', () =>
    inScratch(async (scratch) => {
      await server.stop();
      const url = new URL(server.url);
      url.password = 'hunter2';
      const program = launchProgram({ ...scratch, ...longWait, DATABASE_URL: url.href });
      await until(() => program.output().includes('Waiting for it'), waitLimitMs);
      const warning =
        /"level":40.+DATABASE_URL: PostgreSQL does not answer \(ECONNREFUSED\)\. .+ Waiting for it, 60 more/;
      assert.match(program.output(), warning);
      await server.start();
      // Its first answer is about the password, and that is where the waiting ends.
      assert.deepEqual((await program.ended).code, 1);
      assert.match(program.output(), /DATABASE_URL: the server refuses the user name or the password\./);
      assert.doesNotMatch(program.output(), /hunter2|Waited/);
    }));

  test('does not matter: the program is ready as soon as PostgreSQL is', () =>
    inScratch(async (scratch) => {
      const trusting = await startPostgres();
      await trusting.stop();
      const program = launchProgram({ ...scratch, ...longWait, DATABASE_URL: trusting.url });
      await until(() => program.output().includes('Waiting for it'), waitLimitMs);
      await trusting.start();
      const { origin } = await program.listening;
      assert.equal((await get({ origin }, '/health/ready')).body.status, 'ready');
      assert.equal((await program.stop('SIGTERM')).code, 0);
      await trusting.remove();
    }));

  test('does not matter to a database that is there and refuses: that fails at once', () =>
    inScratch(async (scratch) => {
      const { output, code } = await failStart({ ...scratch, ...longWait, DATABASE_URL: server.url });
      assert.equal(code, 1);
      const sentence = 'the server asks for a password, and the URL has none.';
      assert.equal(output, `Latchkey could not start. DATABASE_URL: ${sentence}\n`);
    }));
});

describe('a database that does not come', () => {
  test('is waited for as long as it says and then named with that time', () =>
    inScratch(async (scratch) => {
      const DATABASE_URL = `postgres://someone:hunter2@127.0.0.1:${await findFreePort()}/x`;
      const { output, code, afterMs } = await failStart({ ...scratch, DATABASE_URL, DATABASE_START_WAIT_SECONDS: '2' });
      assert.equal(code, 1);
      assert.match(output, /"level":40.+PostgreSQL does not answer.+Waiting for it, 2 more seconds at most\./);
      assert.match(
        output,
        /^Latchkey could not start\. DATABASE_URL: PostgreSQL does not answer \(ECONNREFUSED\)\. Start it, or correct host and port\. Waited \d seconds for it\.\n$/m,
      );
      assert.ok(afterMs > 1_500, `it took ${afterMs} ms`);
      assert.doesNotMatch(output, /someone|hunter2/);
    }));

  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    test(`is waited for no longer when ${signal} comes`, () =>
      inScratch(async (scratch) => {
        const DATABASE_URL = `postgres://127.0.0.1:${await findFreePort()}/x`;
        const program = launchProgram({ ...scratch, ...longWait, DATABASE_URL });
        await until(() => program.output().includes('Waiting for it'), waitLimitMs);
        const { code, afterMs } = await program.stop(signal);
        assert.equal(code, 0);
        assert.ok(afterMs < 2_000, `it took ${afterMs} ms`);
        assert.match(program.output(), new RegExp(`^${signal} came before Latchkey was ready, so it ends\\.$`, 'm'));
      }));
  }

  test('is waited for when it is a SQLite file that somebody keeps locked', () =>
    inScratch(async (scratch) => {
      const path = join(scratch.DATA_DIR, 'locked.db');
      const holder = new DatabaseSync(path);
      holder.exec('create table t (a); begin exclusive');
      const program = launchProgram({ ...scratch, ...longWait, DATABASE_URL: `sqlite:${path}` });
      await until(() => program.output().includes('another process keeps the SQLite file locked'), waitLimitMs);
      holder.exec('commit');
      holder.close();
      const { origin } = await program.listening;
      assert.equal((await get({ origin }, '/health/ready')).body.status, 'ready');
      await program.stop('SIGTERM');
    }));
});

describe('a signal during the start', () => {
  test('ends it with 0 even before the program is loaded', () =>
    inScratch(async (scratch) => {
      const program = launchProgram({ ...scratch, NODE_OPTIONS: `--import "data:text/javascript,${tellOfHandler}"` });
      await program.printed('handler');
      const { code, signal } = await program.stop('SIGTERM');
      assert.deepEqual([code, signal], [0, null]);
      assert.equal(program.output(), 'handler\nSIGTERM came before Latchkey was ready, so it ends.\n');
    }));

  test('is not lost in the moment in which the program begins to serve', () =>
    inScratch(async (scratch) => {
      const programs = Array.from({ length: 4 }, (_, index) =>
        launchProgram({ ...scratch, SECRET_KEY: newSecret(), DATABASE_URL: `sqlite:${scratch.DATA_DIR}/${index}.db` }),
      );
      const endings = programs.map(async (program) => {
        await program.printed('Server listening');
        return (await program.stop('SIGTERM')).code;
      });
      assert.deepEqual(await Promise.all(endings), [0, 0, 0, 0]);
    }));
});

describe('a start', () => {
  test('succeeds without Redis and without a mail server, and says of Redis that it is away', () =>
    inScratch(async (scratch) => {
      const closedPort = await findFreePort();
      const program = launchProgram({
        ...scratch,
        REDIS_URL: `redis://127.0.0.1:${closedPort}`,
        SMTP_URL: `smtp://127.0.0.1:${closedPort}`,
      });
      const { origin } = await program.listening;
      const { status, body } = await get({ origin }, '/health/ready');
      assert.deepEqual([status, body.status, body.components.database], [200, 'degraded', 'up']);
      await until(() => program.output().includes('Redis, or a part of it, is not reachable'), waitLimitMs);
      assert.equal((await program.stop('SIGTERM')).code, 0);
    }));
});
