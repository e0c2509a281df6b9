import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, describe, test } from 'node:test';
import { registerUser } from '../../test/accounts.ts';
import { newSecret, production } from '../../test/config.ts';
import { onPostgres, readSource } from '../../test/copying.ts';
import { newMail } from '../../test/database.ts';
import { findingsOf } from '../../test/doctor.ts';
import { findFreePort } from '../../test/ports.ts';
import { backends, createScratch, startSystem } from '../../test/system.ts';
import { createKeyring } from '../crypto/secrets.ts';
import { checkClock } from './clock-skew.ts';
import { judgeSpace } from './database.ts';

const dayMs = 86_400_000;

describe('doctor on SQLite', () => {
  let folder: string;
  let remove: () => Promise<void>;
  let userId: string;
  const secret = newSecret();
  const environment = () => ({ DATA_DIR: folder, SECRET_KEY: secret });
  const path = () => join(folder, 'latchkey.db');

  /** Changes the file behind the service's back, and puts it back after the look. */
  async function withChange<T>(change: string, back: string, look: () => Promise<T>): Promise<T> {
    const execute = (statements: string) => {
      const database = new DatabaseSync(path());
      database.exec(statements);
      database.close();
    };
    execute(change);
    try {
      return await look();
    } finally {
      execute(back);
    }
  }

  before(async () => {
    const scratch = await createScratch('sqlite+memory');
    folder = scratch.environment.DATA_DIR ?? '';
    remove = scratch.remove;
    const system = await startSystem('sqlite+memory', environment());
    userId = (await registerUser(system)).id;
    await system.close();
  });
  after(() => remove?.());

  test('a sound installation has no problem and no warning, and is left as it was', async () => {
    const before = [readSource(path()), readdirSync(folder)];
    // Where nobody listens: at the default address there may be another installation.
    const publicUrl = `http://127.0.0.1:${await findFreePort()}`;
    const { findings, troubles } = await findingsOf({ ...environment(), PUBLIC_URL: publicUrl });
    assert.deepEqual(troubles, []);
    const checks = new Set(findings.map(({ check }) => check));
    for (const check of ['node', 'configuration', 'database', 'database_file', 'database_journal', 'disk']) {
      assert.ok(checks.has(check), check);
    }
    for (const check of ['migrations', 'secret', 'signing_keys', 'outbox', 'redis', 'mail', 'public_address']) {
      assert.ok(checks.has(check), check);
    }
    assert.deepEqual([readSource(path()), readdirSync(folder)], before);
    assert.doesNotMatch(JSON.stringify(findings), new RegExp(secret));
  });

  test('in an empty folder it makes neither a database nor a secret', async () => {
    const empty = join(folder, 'empty');
    const { state, findings } = await findingsOf({ DATA_DIR: empty });
    assert.deepEqual([state('database'), state('node')], ['skipped', 'ok']);
    assert.ok(findings.every((finding) => finding.state !== 'problem'));
    assert.throws(() => statSync(empty), { code: 'ENOENT' });
  });

  test('everything that is wrong with the configuration is said at once, and the database is looked at all the same', async () => {
    const { problems, state } = await findingsOf({ ...environment(), PORT: 'x', NODE_ENV: 'production', HOST: '' });
    assert.deepEqual(
      problems.map(({ check }) => check),
      Array.from({ length: 4 }, () => 'configuration'),
    );
    assert.match(
      JSON.stringify(problems),
      /PORT must be integer.+PUBLIC_URL is required|PUBLIC_URL is required.+PORT must/,
    );
    assert.deepEqual([state('database'), state('rest')], ['ok', 'skipped']);
  });

  test('a runtime that is too old is a problem', async () => {
    const { get } = await findingsOf(environment(), { runtime: { version: 'v20.20.2', oldest: '24.16' } });
    assert.match(get('node').what, /version v20\.20\.2/);
    const { state } = await findingsOf(environment(), { runtime: { version: 'v24.16.0', oldest: '24.16' } });
    assert.equal(state('node'), 'ok');
  });

  test('a secret that the database does not know is a problem that names both fingerprints and neither secret', async () => {
    const other = newSecret();
    const { get, findings } = await findingsOf({ ...environment(), SECRET_KEY: other });
    for (const value of [secret, other]) {
      assert.ok(get('secret').what.includes(createKeyring([value]).current.fingerprint));
      assert.ok(!JSON.stringify(findings).includes(value));
    }
    assert.equal(get('secret').state, 'problem');
  });

  test('a secret that was lost is a problem before a start makes another', async () => {
    const { get } = await findingsOf({ DATA_DIR: folder });
    assert.equal(get('secret').state, 'problem');
    assert.match(get('secret').what, /has no secret\.key, but this database was made with [0-9a-f]{16}\./);
  });

  test('of an older secret it says what still needs it, and when nothing does any more', async () => {
    const newer = newSecret();
    const rotated = { DATA_DIR: folder, SECRET_KEY: `${newer},${secret}` };
    const before = await findingsOf(rotated);
    assert.match(
      before.get('older_secret').what,
      /still needed by signing keys .+, refresh tokens, passwords of users/,
    );
    const system = await startSystem('sqlite+memory', rotated);
    await system.close();
    const afterStart = await findingsOf(rotated);
    assert.match(
      afterStart.get('older_secret').what,
      /still needed by refresh tokens \(until .+Z\), passwords of users/,
    );
    const nothing = await withChange(
      `update users set password_hash = replace(password_hash, 'lk1:', 'was:')`,
      `update users set password_hash = replace(password_hash, 'was:', 'lk1:')`,
      () => findingsOf(rotated, { nowMs: Date.now() + 8 * dayMs }),
    );
    assert.equal(nothing.get('older_secret').state, 'warning');
    assert.match(nothing.get('older_secret').what, /^Nothing depends on the older secret [0-9a-f]{16} any more\.$/);
    const lost = await findingsOf({ DATA_DIR: folder, SECRET_KEY: newer });
    assert.equal(lost.get('older_secret').state, 'warning');
    assert.match(lost.get('older_secret').what, /^Passwords are hashed under the secret [0-9a-f]{16}, which is not/);
    const back = await findingsOf(environment());
    assert.equal(back.get('older_secret').state, 'problem', 'the keys are sealed under the newer one');
    // As it was, for the other tests.
    await (await startSystem('sqlite+memory', { DATA_DIR: folder, SECRET_KEY: `${secret},${newer}` })).close();
    await withChange('delete from secret_fingerprints where rowid > 1', '', async () => {});
  });

  test('a file that others can read, and a folder that others can write to, are problems', async () => {
    for (const [target, mode, right] of [
      [path(), 0o644, 0o600],
      [folder, 0o777, 0o700],
    ] as const) {
      chmodSync(target, mode);
      const { get } = await findingsOf(environment());
      chmodSync(target, right);
      assert.equal(get('database_file').state, 'problem');
      assert.equal(get('database_file').remedy, `chmod ${right.toString(8)} ${target}`);
    }
    const own = join(folder, 'secret.key');
    writeFileSync(own, newSecret(), { mode: 0o640 });
    const { get } = await findingsOf(environment());
    rmSync(own);
    assert.equal(get('secret_file').state, 'problem');
  });

  test('a file without the write-ahead log is a warning, and stays without it', async () => {
    const { get } = await withChange('pragma journal_mode = delete', 'pragma journal_mode = wal', async () => {
      const found = await findingsOf(environment());
      assert.equal((await findingsOf(environment())).state('database_journal'), 'warning');
      return found;
    });
    assert.match(get('database_journal').what, /journal mode delete, not WAL/);
  });

  test('tables that are behind are a warning, those of a later version and a foreign file problems', async () => {
    const behind = await withChange(
      "update kysely_migration set timestamp = timestamp || '!', name = 'x' where name like '0002%'; delete from kysely_migration where name = 'x'",
      "insert into kysely_migration values ('0002-account-life', '')",
      () => findingsOf(environment()),
    );
    assert.equal(behind.get('migrations').state, 'warning');
    assert.match(behind.get('migrations').what, /are pending: 0002-account-life\.$/);
    const ahead = await withChange(
      "insert into kysely_migration values ('9999-later', '')",
      "delete from kysely_migration where name = '9999-later'",
      () => findingsOf(environment()),
    );
    assert.match(ahead.get('migrations').what, /made by a later version of Latchkey \(9999-later\)/);
    const foreign = join(folder, 'foreign.db');
    writeFileSync(foreign, 'no database, but long enough to be read as one'.repeat(100));
    const { get } = await findingsOf({ ...environment(), DATABASE_URL: `sqlite:${foreign}` });
    rmSync(foreign);
    assert.match(get('database').what, /is not a SQLite database/);
  });

  test('a disk that is nearly full is a warning, and one that is full a problem', () => {
    const gibibyte = 1024 ** 3;
    const states = [2 * gibibyte, gibibyte / 2, gibibyte / 20].map((free) => judgeSpace('latchkey.db', free).state);
    assert.deepEqual(states, ['ok', 'warning', 'problem']);
  });

  test('a signing key that nobody rotates is a warning, and a missing one a problem', async () => {
    const late = await findingsOf(environment(), { nowMs: Date.now() + 100 * dayMs });
    assert.match(late.get('signing_keys').what, /has signed for (?:99|100) days, of 90 days at most/);
    assert.equal(late.get('signing_keys').state, 'warning');
    const missing = await withChange(
      "update signing_keys set state = 'retired' where state = 'next'",
      "update signing_keys set state = 'next' where state = 'retired'",
      () => findingsOf(environment()),
    );
    assert.equal(missing.get('signing_keys').what, 'There is no next signing key.');
  });

  test('mail that waits for minutes is a warning', async () => {
    const { id, sealed_message } = newMail(userId);
    const tenMinutesAgo = Date.now() - 600_000;
    const { get } = await withChange(
      `insert into outbox (id, user_id, sealed_message, created_at, expires_at, attempts, next_attempt_at)
        values ('${id}', '${userId}', '${sealed_message}', ${tenMinutesAgo}, ${tenMinutesAgo}, 1, 1)`,
      `delete from outbox where id = '${id}'`,
      () => findingsOf(environment()),
    );
    assert.match(get('outbox').what, /^1 mail waits, the oldest for 10 minutes\.$/);
  });

  test('settings of development in public are problems, and open doors in production warnings', async () => {
    const inPublic = await findingsOf({ ...environment(), PUBLIC_URL: 'http://auth.example.net', RATE_LIMITS: 'off' });
    assert.deepEqual(
      ['mode', 'limits', 'public_url'].map((check) => inPublic.state(check)),
      ['problem', 'warning', 'warning'],
    );
    const open = await findingsOf({
      ...production,
      ...environment(),
      SMTP_URL: `smtp://127.0.0.1:${await findFreePort()}`,
      PUBLIC_URL: 'http://auth.example.net',
      CORS_ORIGINS: 'http://app.example.net,https://app.example.net',
      LOG_LEVEL: 'debug',
      ACCESS_TOKEN_TTL_SECONDS: '7200',
    });
    assert.deepEqual(
      ['public_url', 'cors', 'log', 'access_tokens', 'public_address'].map((check) => open.state(check)),
      ['problem', 'warning', 'warning', 'warning', 'skipped'],
    );
    assert.match(open.get('cors').what, /: http:\/\/app\.example\.net\.$/);
  });

  test('proxies: none behind https and a large part of the Internet are warnings, networks of one operator are not', async () => {
    const behind = { ...production, ...environment(), SMTP_URL: `smtp://127.0.0.1:${await findFreePort()}` };
    const states: Record<string, string> = {
      '': 'warning',
      '10.0.0.0/8': 'ok',
      '0.0.0.0/1': 'warning',
      '2000::/3': 'warning',
    };
    states['104.16.0.0/13,2400:cb00::/32'] = 'ok';
    for (const [TRUST_PROXY, expected] of Object.entries(states)) {
      assert.equal((await findingsOf({ ...behind, TRUST_PROXY })).state('proxy'), expected, TRUST_PROXY);
    }
  });

  test('PUBLIC_URL must lead to this installation', async () => {
    const keys = new DatabaseSync(path(), { readOnly: true }).prepare('select kid from signing_keys').all();
    let shown: unknown = { keys };
    const server = createServer((_request, reply) => reply.end(JSON.stringify(shown))).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as AddressInfo;
    const stateNow = async () =>
      (await findingsOf({ ...environment(), PUBLIC_URL: `http://127.0.0.1:${port}` })).get('public_address');
    assert.equal((await stateNow()).state, 'ok');
    shown = { keys: [{ kid: 'another' }] };
    assert.match((await stateNow()).what, /answers with the keys of another installation/);
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    assert.equal((await stateNow()).state, 'skipped');
  });

  test('another machine is asked only with --probe', async () => {
    const elsewhere = { ...environment(), PUBLIC_URL: 'http://latchkey.invalid' };
    assert.equal((await findingsOf(elsewhere)).state('public_address'), 'skipped');
    assert.equal((await findingsOf(elsewhere, { isProbing: true })).state('public_address'), 'problem');
  });

  test('a folder in the place of the file, and one that cannot be read, are problems', async () => {
    mkdirSync(join(folder, 'folder.db'));
    const { get } = await findingsOf({ ...environment(), DATABASE_URL: `sqlite:${join(folder, 'folder.db')}` });
    assert.equal(get('database').state, 'problem');
  });
});

describe('the clocks of two machines', () => {
  test('may be two seconds apart and what the question itself took; half a minute is a problem', () => {
    const states = [0, 1_900, 2_300, -2_300, 3_000, -29_000, 31_000].map((ms) => checkClock('it', ms, 500).state);
    assert.deepEqual(states, ['ok', 'ok', 'ok', 'ok', 'warning', 'warning', 'problem']);
    assert.match(checkClock('Redis', -31_000, 0).what, /^The clock of Redis is 31\.0 s behind this machine's\.$/);
  });
});

describe('doctor on PostgreSQL', { skip: !backends.includes('postgres+redis') }, () => {
  let scratch: Awaited<ReturnType<typeof createScratch>>;
  let url: string;
  const secret = newSecret();
  const lookAt = (DATABASE_URL: string, more: Record<string, string> = {}) =>
    findingsOf({ DATA_DIR: scratch.environment.DATA_DIR ?? '', DATABASE_URL, SECRET_KEY: secret, ...more });

  before(async () => {
    scratch = await createScratch('postgres+redis');
    url = scratch.environment.DATABASE_URL ?? '';
  });
  after(() => scratch?.remove());

  test('an empty database is no problem, and stays empty', async () => {
    const { problems, get } = await lookAt(url);
    assert.deepEqual(problems, []);
    assert.match(get('migrations').why ?? '', /There are no tables yet/);
    assert.deepEqual(await listTables(url), []);
  });

  test('a sound one answers everything, and without Redis it is said that one instance is all', async () => {
    await (await startSystem('sqlite+memory', { DATABASE_URL: url, SECRET_KEY: secret })).close();
    const { problems, state } = await lookAt(url);
    assert.deepEqual(problems, []);
    assert.deepEqual(
      ['migrations', 'secret', 'signing_keys', 'connections', 'clock', 'database_tls', 'instances'].map(state),
      ['ok', 'ok', 'ok', 'ok', 'ok', 'ok', 'warning'],
    );
    assert.match((await lookAt(url)).get('database').what, /superuser/);
  });

  test('a server that is not there, takes no writes or knows no such database is a problem with a remedy', async () => {
    const cases: [string, RegExp][] = [
      [`postgres://postgres@127.0.0.1:${await findFreePort()}/x`, /PostgreSQL does not answer \(ECONNREFUSED\)/],
      [url.replace(/latchkey_test_\w+/, 'latchkey_test_missing'), /has no database of that name/],
      [`${url}?options=-c%20default_transaction_read_only%3Don`, /takes no writes/],
      [`${url}?sslmode=verify-full`, /does not offer TLS|not to be trusted|for another host/],
    ];
    for (const [faulty, expected] of cases) {
      const { problems } = await lookAt(faulty);
      assert.match(problems.map(({ what }) => what).join(' '), expected);
      assert.ok(problems.every(({ why, remedy }) => why && remedy));
    }
  });

  test('a pool that is larger than the server, or the user, takes is a problem', async () => {
    const tooMany = await lookAt(url, { DATABASE_POOL_MAX: '200' });
    assert.equal(tooMany.state('connections'), 'problem');
    const user = `limited_${Math.random().toString(36).slice(2)}`;
    await onPostgres(url, (client) => client.query(`create role ${user} login connection limit 3`));
    const { get } = await lookAt(url.replace('postgres@', `${user}@`));
    await onPostgres(url, (client) => client.query(`drop role ${user}`));
    assert.match(
      get('connections').what,
      /^DATABASE_POOL_MAX is 10, the server takes \d+ \(this user 3\), and \d+ are in use\.$/,
    );
    assert.equal(get('connections').state, 'problem');
  });

  test('an encoding that cannot hold every name is a problem', async () => {
    const ascii = new URL(url);
    ascii.pathname = `${ascii.pathname}_ascii`;
    const name = ascii.pathname.slice(1);
    await onPostgres(url, (client) =>
      client.query(`create database ${name} template template0 encoding 'SQL_ASCII' locale 'C'`),
    );
    const { problems } = await lookAt(ascii.href);
    await onPostgres(url, (client) => client.query(`drop database ${name} with (force)`));
    assert.deepEqual(
      problems.map(({ what }) => what),
      ['The database has the encoding SQL_ASCII.'],
    );
  });
});

async function listTables(url: string): Promise<unknown[]> {
  const { rows } = await onPostgres(url, (client) =>
    client.query('select tablename from pg_tables where schemaname = current_schema()'),
  );
  return rows;
}
