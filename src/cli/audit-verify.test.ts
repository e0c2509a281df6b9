import assert from 'node:assert/strict';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { goodPassword, newEmail, openSession, registerUser } from '../../test/accounts.ts';
import { sealAll } from '../../test/audit.ts';
import { newSecret } from '../../test/config.ts';
import { startCommand } from '../../test/copying.ts';
import { register, startProgram } from '../../test/program.ts';
import { inScratch, readSqlite } from '../../test/scratch.ts';
import { backends, createScratch, type System, startSystem } from '../../test/system.ts';
import { until } from '../../test/until.ts';

const secret = newSecret();

for (const backend of backends) {
  describe(`audit verify (${backend})`, () => {
    let scratch: Awaited<ReturnType<typeof createScratch>>;
    let system: System;
    let environment: Record<string, string> & { cwd: string };

    before(async () => {
      scratch = await createScratch(backend);
      const { REDIS_URL: _redis, ...own } = scratch.environment;
      environment = { ...own, SECRET_KEY: secret, cwd: own.DATA_DIR ?? '' };
      system = await startSystem(backend, { ...scratch.environment, SECRET_KEY: secret });
      for (let seal = 0; seal < 3; seal += 1) {
        await openSession(system, await registerUser(system));
        await sealAll(system.deps);
      }
    });

    after(async () => {
      await system?.close();
      await scratch?.remove();
    });

    const verify = (options: string[] = [], changed: Record<string, string> = {}) =>
      startCommand(['audit', 'verify', ...options], { ...environment, ...changed }).ended;

    test('says while the service runs that nothing is wrong, and which seal is the newest', async () => {
      await registerUser(system);
      const [text, json] = await Promise.all([verify(), verify(['--json'])]);
      assert.deepEqual([text.code, json.code, text.stderr, json.stderr], [0, 0, '', '']);
      const found = JSON.parse(json.stdout);
      const head = String(found.head);
      assert.match(head, /^3:[\w-]{43}$/);
      assert.ok(text.stdout.includes(`newest seal  ${head} of `), text.stdout);
      assert.match(text.stdout, /^Read 9 events in 3 seals\.$/m);
      assert.match(text.stdout, /^ {2}not sealed {3}2 events, the oldest of 20\S+Z$/m);
      assert.match(text.stdout, /^The audit trail is intact\.$/m);
      const { head_sealed_at: _sealed, oldest_unsealed_at: _oldest, ...rest } = found;
      assert.deepEqual(rest, {
        verdict: 'intact',
        events: 9,
        seals: 3,
        head,
        blanked_events: 0,
        unsealed_events: 2,
        removed_events: 0,
        removed_through_seal: null,
        vouched_seals: 0,
        unauthenticated_seals: null,
        findings: [],
        more_findings: 0,
      });
      const noted = await verify(['--expect', head]);
      assert.equal(noted.code, 0, noted.stderr);
    });

    test('ends with 1 and names the first seal and event that is wrong', async () => {
      const { db } = system.deps;
      const event = await db
        .selectFrom('audit_events')
        .selectAll()
        .where('seal_seq', '=', 2)
        .limit(1)
        .executeTakeFirstOrThrow();
      const setType = (type: string) =>
        db.updateTable('audit_events').set({ type }).where('id', '=', event.id).execute();
      await setType('user.updated');
      const [text, json] = await Promise.all([verify(), verify(['--json'])]);
      await setType(event.type);
      assert.deepEqual([text.code, json.code], [1, 1]);
      const sentence = `event ${event.id} of seal 2: is not as it was when it was sealed`;
      assert.equal(text.stderr, `The audit trail is broken, first at ${sentence}.\n`);
      assert.ok(text.stdout.includes(`  wrong        ${sentence}\n`) && !text.stdout.includes('intact'));
      const { verdict, findings } = JSON.parse(json.stdout);
      assert.equal(verdict, 'broken');
      assert.deepEqual(findings, [
        { fault: 'event_changed', seal: 2, event_id: event.id, text: 'is not as it was when it was sealed' },
      ]);
    });

    test('ends with 1 where a noted head is gone, and with 2 where it cannot vouch for what it reads', async () => {
      const gone = await verify(['--expect', `7:${'x'.repeat(43)}`]);
      assert.equal(gone.code, 1);
      assert.match(
        gone.stderr,
        /^The audit trail is broken, first at seal 7: was noted and is not there: .+ cut off\.\n$/,
      );
      const { SECRET_KEY: _secret, ...without } = environment;
      const [stranger, nobody] = await Promise.all([
        verify([], { SECRET_KEY: newSecret() }),
        startCommand(['audit', 'verify'], { ...without, cwd: environment.cwd, NODE_ENV: 'production' }).ended,
      ]);
      for (const { code, stderr, stdout } of [stranger, nobody]) {
        assert.equal(code, 2);
        assert.match(stderr, /^The audit trail could not be checked: the SECRET_KEY of seals 1 to 3 is not given, /);
        assert.doesNotMatch(stdout, /intact/);
      }
    });

    test('the digest of a noted head is enough without the secret', async () => {
      const { head } = JSON.parse((await verify(['--json'])).stdout);
      const { code, stdout } = await verify(['--expect', head], { SECRET_KEY: newSecret() });
      assert.equal(code, 0);
      assert.match(stdout, /vouched for {2}3 seals/);
    });
  });
}

describe('audit verify', () => {
  test('ends with 2 where there is nothing to check, and makes nothing', () =>
    inScratch(async ({ DATA_DIR: cwd }) => {
      writeFileSync(join(cwd, 'notes.db'), 'no database, but long enough to be read as one'.repeat(100));
      const cases: [string[], Record<string, string>, RegExp][] = [
        [['audit', 'verify'], {}, /^The audit trail could not be checked\. The database: there is no file /],
        [['audit', 'verify'], { DATABASE_URL: 'sqlite:notes.db' }, /: the file is not a SQLite database\.\n$/],
        [
          ['audit', 'verify'],
          { DATABASE_URL: 'postgres://u:hunter2@127.0.0.1:1/x' },
          /does not answer \(ECONNREFUSED\)/,
        ],
        [['audit', 'verify'], { DATABASE_URL: 'mysql://x' }, /^The configuration is not usable:/],
        [['audit', 'verify', '--expect', '7'], {}, /^--expect must be <number>:<digest>/],
        [['audit'], {}, /^Usage: latchkey audit/],
      ];
      const outcomes = await Promise.all(
        cases.map(([args, environment]) => startCommand(args, { cwd, ...environment }).ended),
      );
      for (const [index, { code, stdout, stderr }] of outcomes.entries()) {
        assert.match(stderr, cases[index]?.[2] ?? /^$/);
        assert.deepEqual([code, stdout], [2, ''], stderr);
        assert.doesNotMatch(stderr, /hunter2/);
      }
      assert.deepEqual(readdirSync(cwd), ['notes.db']);
    }));

  test('its help fits on a screen and says the exit codes', () =>
    inScratch(async ({ DATA_DIR: cwd }) => {
      const { code, stdout } = await startCommand(['audit', 'verify', '--help'], { cwd }).ended;
      assert.equal(code, 0);
      assert.match(stdout, /Exit codes: 0 intact, 1 broken, 2 could not be checked\./);
      const longest = Math.max(...stdout.split('\n').map((line) => line.length));
      assert.ok(longest <= 82, `a line of ${longest} characters`);
    }));

  test('a service in development seals by itself, and is verified with the secret that it has made', () =>
    inScratch(async (environment) => {
      const program = await startProgram(environment);
      const { DATA_DIR: cwd } = environment;
      const verify = () => startCommand(['audit', 'verify'], { cwd, DATA_DIR: cwd }).ended;
      try {
        const fresh = await verify();
        assert.equal(fresh.code, 0, fresh.stderr);
        assert.match(fresh.stdout, /^Read 0 events in 0 seals\.\n {2}not sealed {3}0 events\n/);
        await register(program, newEmail(), goodPassword);
        const countSeals = () => readSqlite(join(cwd, 'latchkey.db'), 'select seq from audit_seals').length;
        await until(() => countSeals() > 0, 20_000);
        const sealed = await verify();
        assert.equal(sealed.code, 0, sealed.stderr);
        assert.match(sealed.stdout, /^Read [12] events in 1 seals/);
      } finally {
        await program.stop('SIGTERM');
      }
    }));
});
