import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { catchConfigError, configFolder, newSecret, problemsOf, production, writeSecretFile } from '../test/config.ts';
import { loadConfig } from './config.ts';

describe('problems', () => {
  test('never repeat the value of a variable that can hold a secret', () => {
    const names = ['SECRET_KEY', 'DATABASE_URL', 'REDIS_URL', 'SMTP_URL', 'METRICS_TOKEN'];
    const wrongValues = ['hunter2', 'http://user:hunter2@host', `hunter2${'x'.repeat(5_000)}`, 'hunter2,hunter2'];
    const schemes: Record<string, string> = { DATABASE_URL: 'postgres', REDIS_URL: 'redis', SMTP_URL: 'smtp' };
    for (const name of names) {
      const ownUrls = ['hunter2/x@host', 'hunter2#x@host', 'hunter2@host:99999', 'hunter2%@host', 'hunter2@host:0'];
      const scheme = schemes[name];
      const ownValues = scheme === undefined ? [] : ownUrls.map((rest) => `${scheme}://user:${rest}`);
      for (const value of [...wrongValues, ...ownValues]) {
        const path = writeSecretFile(value);
        const { [name as 'SECRET_KEY']: _given, ...rest } = production;
        for (const raw of [
          { ...production, [name]: value },
          { ...rest, [`${name}_FILE`]: path },
          // Whoever mistakes the one for the other.
          { ...rest, [`${name}_FILE`]: value },
        ]) {
          const error = catchConfigError(raw);
          assert.ok(error, `${name}=${value.slice(0, 40)} is refused`);
          assert.doesNotMatch(`${error.message}${error.stack}${JSON.stringify(error)}`, /hunter2/);
        }
      }
    }
  });
});

describe('SECRET_KEY', () => {
  test('from a random generator is accepted in every usual spelling', () => {
    const secrets = [
      randomBytes(48).toString('base64'),
      randomBytes(32).toString('base64url'),
      randomBytes(32).toString('hex'),
      'Grün wächst 7 mal Öl über dem Fjord!',
    ];
    for (const secret of secrets)
      assert.deepEqual(loadConfig({ ...production, SECRET_KEY: secret }).secretKeys, [secret]);
  });

  const weak = {
    'is shorter than 32 bytes': ['x', randomBytes(16).toString('base64url'), newSecret().slice(0, 31)],
    'repeats too few characters to be random': ['a'.repeat(64), 'ab'.repeat(32), '123456789'.repeat(8)],
    'looks like an example; make one with: openssl rand -base64 48': [
      `change-me-${newSecret()}`,
      `CHANGE_ME${newSecret()}`,
      `${newSecret()}changeme`,
      `example${newSecret()}`,
      `my-Secret-${newSecret()}`,
      `password${newSecret()}`,
      `latchkey${newSecret()}`,
      `your_key${newSecret()}`,
      '0123456789abcdef0123456789abcdef',
    ],
  };
  for (const [fault, secrets] of Object.entries(weak)) {
    test(`is refused when it ${fault.split(';')[0]}, in production and in development`, () => {
      for (const secret of secrets) {
        assert.deepEqual(problemsOf({ ...production, SECRET_KEY: secret }), [`SECRET_KEY: value 1 ${fault}`]);
        assert.deepEqual(problemsOf({ SECRET_KEY: secret }), [`SECRET_KEY: value 1 ${fault}`]);
      }
    });
  }

  test('is a list, newest first, whose every value must be good', () => {
    const [first, second] = [newSecret(), newSecret()];
    const { secretKeys } = loadConfig({ ...production, SECRET_KEY: ` ${first} , ${second},` });
    assert.deepEqual(secretKeys, [first, second]);
    assert.deepEqual(problemsOf({ ...production, SECRET_KEY: `${first},short` }), [
      'SECRET_KEY: value 2 is shorter than 32 bytes',
    ]);
    assert.deepEqual(problemsOf({ ...production, SECRET_KEY: `${first},${second},${first}` }), [
      'SECRET_KEY names the same value twice',
    ]);
  });

  test('is made once in development, for its owner alone, and kept', () => {
    const dataDir = join(configFolder, 'fresh', 'data');
    const first = loadConfig({ DATA_DIR: dataDir });
    const [secret] = first.secretKeys;
    assert.match(secret, /^[A-Za-z0-9_-]{86}$/);
    const path = join(dataDir, 'secret.key');
    assert.equal(readFileSync(path, 'utf8'), `${secret}\n`);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.equal(statSync(dataDir).mode & 0o777, 0o700);
    assert.deepEqual(loadConfig({ DATA_DIR: dataDir }), first);
    assert.notDeepEqual(loadConfig({ DATA_DIR: join(configFolder, 'other') }).secretKeys, first.secretKeys);
  });

  test('that was kept is held to the same strength, and the problem names the file', () => {
    for (const [content, fault] of [
      ['', 'is shorter than 32 bytes'],
      ['short\n', 'is shorter than 32 bytes'],
      ['a'.repeat(64), 'repeats too few characters to be random'],
    ] as const) {
      const dataDir = mkdtempSync(join(configFolder, 'weak-'));
      const path = join(dataDir, 'secret.key');
      writeFileSync(path, content);
      const [problem = '', ...more] = problemsOf({ DATA_DIR: dataDir });
      assert.ok(problem.startsWith(`the secret in ${path} ${fault};`), problem);
      assert.deepEqual(more, []);
      assert.equal(readFileSync(path, 'utf8'), content);
    }
  });

  test('that is made leaves no other file behind', () => {
    const dataDir = mkdtempSync(join(configFolder, 'tidy-'));
    loadConfig({ DATA_DIR: dataDir });
    assert.deepEqual(readdirSync(dataDir), ['secret.key']);
  });

  test('that cannot be kept is a problem of DATA_DIR', () => {
    const path = writeSecretFile('a file where the folder should be');
    assert.match(problemsOf({ DATA_DIR: path })[0] ?? '', /^DATA_DIR: .*secret\.key cannot be read or made: E/);
  });

  test('that is set to nothing, directly or by an empty file, is never replaced by one of our own', () => {
    const { SECRET_KEY: _given, ...rest } = production;
    for (const environment of [rest, {}]) {
      assert.deepEqual(problemsOf({ ...environment, SECRET_KEY: ' , ' }), ['SECRET_KEY holds no value']);
      const SECRET_KEY_FILE = writeSecretFile('\n');
      assert.ok(problemsOf({ ...environment, SECRET_KEY_FILE }).includes('SECRET_KEY_FILE names an empty file'));
    }
  });

  test('that is given makes no file, and neither does a configuration that is refused', () => {
    const dataDir = join(configFolder, 'untouched');
    loadConfig({ DATA_DIR: dataDir, SECRET_KEY: newSecret() });
    assert.equal(problemsOf({ DATA_DIR: dataDir, PORT: 'x' }).length, 1);
    assert.equal(problemsOf({ ...production, SECRET_KEY: '', DATA_DIR: dataDir }).length, 1);
    assert.equal(existsSync(dataDir), false);
  });
});

describe('a variable named <NAME>_FILE', () => {
  const values = {
    SECRET_KEY: newSecret(),
    DATABASE_URL: 'postgres://user:password@db/latchkey',
    REDIS_URL: 'redis://:password@cache',
    SMTP_URL: 'smtps://user:password@mail.example.com',
    METRICS_TOKEN: newSecret(),
  };
  for (const [name, value] of Object.entries(values)) {
    const { [name as 'SECRET_KEY']: _given, ...rest } = production;

    test(`gives ${name} the trimmed content of the file`, () => {
      const { environment } = loadConfig({ ...rest, [`${name}_FILE`]: writeSecretFile(`\n ${value}\n`) });
      assert.equal(environment[name as 'SECRET_KEY'], value);
    });

    test(`is refused beside ${name} itself, and ignored when it is empty`, () => {
      const both = { ...production, [name]: value, [`${name}_FILE`]: writeSecretFile(value) };
      assert.deepEqual(problemsOf(both), [`${name} and ${name}_FILE are both set; set one`]);
      assert.deepEqual(problemsOf({ ...production, [name]: value, [`${name}_FILE`]: '' }), []);
    });

    test(`is refused when the file for ${name} cannot be read`, () => {
      const problems = problemsOf({
        ...production,
        [name]: undefined,
        [`${name}_FILE`]: join(configFolder, 'no-such-file'),
      });
      assert.match(problems[0] ?? '', new RegExp(`^${name}_FILE cannot be read: ENOENT`));
    });
  }

  test('exists for the five that can hold a secret and for no other', () => {
    const { PORT } = loadConfig({ ...production, PORT_FILE: writeSecretFile('9000') }).environment;
    assert.equal(PORT, 8000);
  });
});
