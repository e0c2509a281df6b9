import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ConfigError } from './config-error.ts';
import { DatabaseBusyError } from './db/failures.ts';
import { MigrationForbiddenError, UnknownMigrationError } from './db/migrate.ts';
import { DatabaseAbsentError } from './db/start-wait.ts';
import { WrongSecretError } from './keys/flow.ts';
import { explainStartError } from './start-error.ts';

// What real components do is shown in test/process.test.ts; here is what a test cannot bring about, such as
// a disk that fails, or a file that root may not read.
describe('the reason why the start failed', () => {
  const cases: [string, Record<string, unknown>, RegExp][] = [
    ['a port below 1024', { code: 'EACCES', syscall: 'listen', port: 80 }, /^PORT: this user may not listen on 80\./],
    ['a host without address', { code: 'ENOTFOUND', syscall: 'getaddrinfo', hostname: 'h' }, /^HOST: h cannot be/],
    [
      'a database host without address',
      { code: 'ENOTFOUND', syscall: 'getaddrinfo', hostname: 'db' },
      /^DATABASE_URL: /,
    ],
    [
      'a folder that may not be made',
      { code: 'EACCES', syscall: 'mkdir', path: '/x' },
      /^DATABASE_URL, or DATA_DIR: \/x /,
    ],
    [
      'an .env that may not be read',
      { code: 'EACCES', syscall: 'open', path: '.env' },
      /^The file \.env cannot be read/,
    ],
    ['a database that is not there', { code: '3D000' }, /^DATABASE_URL: the server has no database of that name\./],
    ['a wrong password', { code: '28P01' }, /^DATABASE_URL: the server refuses the user name or the password\./],
    ['a user who may not use the tables', { code: '42501' }, /^DATABASE_URL: the user may not use the tables\./],
    ['tables that stay locked', { code: '55P03' }, /^DATABASE_URL: another session keeps the tables locked\./],
    ['a certificate of the past', { code: 'CERT_HAS_EXPIRED' }, /^DATABASE_URL: the certificate .+ is not valid now/],
    ['a socket file that is not there', { code: 'ENOENT', syscall: 'connect' }, /^DATABASE_URL: PostgreSQL does not/],
    ['a SQLite file that may not be written', { errcode: 8 }, /^DATABASE_URL: the SQLite file, or the folder/],
    ['the same with an extended result code', { errcode: 264 }, /^DATABASE_URL: the SQLite file, or the folder/],
    ['a disk that is full', { errcode: 13 }, /^DATABASE_URL: the disk under the SQLite file is full\./],
  ];
  for (const [title, properties, expected] of cases) {
    test(`is one sentence that names the variable: ${title}`, () => {
      const text = explainStartError(Object.assign(new Error('message'), properties), 'h');
      assert.match(text.replace('Latchkey could not start. ', ''), expected);
      assert.doesNotMatch(text, /\n|message/);
    });
  }

  test('is one sentence for a lock that nobody gives up and for tables of another version', () => {
    assert.match(explainStartError(new DatabaseBusyError('busy'), 'h'), /DATABASE_URL: another process keeps/);
    const later = new UnknownMigrationError('0009-x');
    assert.match(explainStartError(later, 'h'), /DATABASE_URL: the tables were made by a later version.+\(0009-x\)/);
  });

  test('is one sentence for tables that this user may not make', () => {
    assert.match(explainStartError(new MigrationForbiddenError('no'), 'h'), /DATABASE_URL: the tables are missing or/);
  });

  test('of a pooler that refuses settings says what to set, and of another breach of the protocol nothing', () => {
    const refusal = Object.assign(new Error('unsupported startup parameter: lock_timeout'), { code: '08P01' });
    assert.match(explainStartError(refusal, 'h'), /DATABASE_URL: the pooler refuses settings .+ pgbouncer=true/);
    const other = Object.assign(new Error('invalid message'), { code: '08P01' });
    assert.match(explainStartError(other, 'h'), /^Latchkey could not start\. Error: invalid message\n/);
  });

  test('says how long the database was waited for', () => {
    const absent = Object.assign(new Error('message'), { code: 'ECONNREFUSED' });
    assert.equal(
      explainStartError(new DatabaseAbsentError(30, absent), 'h'),
      'Latchkey could not start. DATABASE_URL: PostgreSQL does not answer (ECONNREFUSED). ' +
        'Start it, or correct host and port. Waited 30 seconds for it.',
    );
  });

  test('is the message alone of what we refuse ourselves', () => {
    assert.equal(explainStartError(new WrongSecretError('wrong'), 'h'), 'wrong');
    assert.equal(explainStartError(new ConfigError(['a', 'b']), 'h'), 'The configuration is not usable:\n  - a\n  - b');
  });

  test('keeps the stack of what nobody foresaw, without its properties', () => {
    const error = catchError(() => new URL('redis://user:hunter2@host:99999'));
    const text = explainStartError(error, 'h');
    assert.match(text, /^Latchkey could not start\. TypeError: Invalid URL\n {4}at /);
    assert.doesNotMatch(text, /hunter2/);
    assert.equal(explainStartError('a string', 'h'), 'Latchkey could not start: a string');
  });
});

function catchError(work: () => unknown): unknown {
  try {
    return work();
  } catch (error) {
    return error;
  }
}
