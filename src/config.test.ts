import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { describe, test } from 'node:test';
import { catchConfigError, newSecret, problemsOf, production } from '../test/config.ts';
import { loadConfig } from './config.ts';
import { readRateLimits } from './limit-table.ts';

describe('the defaults', () => {
  test('an empty environment is a development set-up with these values', () => {
    const secret = newSecret();
    assert.deepEqual(loadConfig({ SECRET_KEY: secret }), {
      isProduction: false,
      isDevelopment: true,
      secretKeys: [secret],
      corsOrigins: [],
      trustedProxies: [],
      rateLimits: readRateLimits('on').limits,
      environment: {
        NODE_ENV: 'development',
        HOST: 'localhost',
        PORT: 8000,
        PUBLIC_URL: 'http://localhost:8000',
        DATA_DIR: './data',
        DATABASE_URL: 'sqlite:data/latchkey.db',
        DATABASE_POOL_MAX: 10,
        DATABASE_START_WAIT_SECONDS: 30,
        SECRET_KEY: secret,
        MAIL_FROM: 'Latchkey <no-reply@localhost>',
        MAIL_SUBJECT: '{subject}',
        PASSWORD_HASH: 'bcrypt',
        BCRYPT_COST: 12,
        HASH_THREADS: Math.min(availableParallelism(), 8),
        HASH_QUEUE_MAX: 100,
        PASSWORD_MIN_LENGTH: 8,
        ACCESS_TOKEN_TTL_SECONDS: 1800,
        ACCESS_TOKEN_AUDIENCE: 'http://localhost:8000',
        SESSION_CACHE: 'on',
        SIGNING_KEY_MAX_AGE_SECONDS: 7_776_000,
        SESSION_IDLE_TTL_SECONDS: 604_800,
        SESSION_MAX_TTL_SECONDS: 2_592_000,
        SESSIONS_PER_USER_MAX: 20,
        REFRESH_REUSE_GRACE_SECONDS: 30,
        CODE_TTL_SECONDS: 300,
        AUDIT_RETENTION_DAYS: 365,
        CORS_ORIGINS: '',
        TRUST_PROXY: '',
        RATE_LIMITS: 'on',
        DOCS: 'on',
        METRICS_HOST: 'localhost',
        LOG_LEVEL: 'info',
      },
    });
  });

  test('production listens on every address, and the test environment is neither of the two', () => {
    const { isProduction, isDevelopment, environment } = loadConfig(production);
    assert.deepEqual([isProduction, isDevelopment, environment.HOST], [true, false, '0.0.0.0']);
    const testing = loadConfig({ NODE_ENV: 'test', SECRET_KEY: newSecret() });
    assert.deepEqual([testing.isProduction, testing.isDevelopment], [false, false]);
  });

  test('what is derived follows what is given', () => {
    const byPort = loadConfig({ SECRET_KEY: newSecret(), PORT: '9000', DATA_DIR: '/srv/latchkey' }).environment;
    assert.equal(byPort.PUBLIC_URL, 'http://localhost:9000');
    assert.equal(byPort.DATABASE_URL, 'sqlite:/srv/latchkey/latchkey.db');
    assert.equal(loadConfig(production).environment.ACCESS_TOKEN_AUDIENCE, 'https://auth.example.com');
    const ownAudience = loadConfig({ ...production, ACCESS_TOKEN_AUDIENCE: 'api' }).environment;
    assert.equal(ownAudience.ACCESS_TOKEN_AUDIENCE, 'api');
  });

  test('an empty variable means that it is not set, and an unknown one means nothing', () => {
    const names = Object.keys(loadConfig(production).environment).filter((name) => name !== 'SECRET_KEY');
    const empty = Object.fromEntries(names.map((name) => [name, '']));
    const SECRET_KEY = newSecret();
    assert.deepEqual(loadConfig({ ...empty, REDIS_URL: '', SMTP_URL: '', SECRET_KEY }), loadConfig({ SECRET_KEY }));
    assert.deepEqual(loadConfig({ UNKNOWN: 'x', SECRET_KEY }), loadConfig({ SECRET_KEY }));
    assert.deepEqual(problemsOf({ ...production, SMTP_URL: '' }), ['SMTP_URL is required in production']);
  });
});

describe('problems', () => {
  test('are reported all at once, and the error lists them', () => {
    const raw = {
      ...production,
      MAIL_FROM: '',
      PORT: 'x',
      HOST: 'x'.repeat(256),
      RATE_LIMITS: 'off',
      SECRET_KEY: 'short',
    };
    const error = catchConfigError(raw);
    assert.deepEqual(error?.problems, [
      'MAIL_FROM is required in production',
      'HOST must not have more than 255 characters',
      'PORT must be integer',
      'RATE_LIMITS must not be off in production',
      'SECRET_KEY: value 1 is shorter than 32 bytes',
    ]);
    assert.equal(
      error?.message,
      `The configuration is not usable:\n${error?.problems.map((p) => `  - ${p}`).join('\n')}`,
    );
  });

  for (const name of ['SECRET_KEY', 'PUBLIC_URL', 'SMTP_URL', 'MAIL_FROM']) {
    test(`${name} is required in production`, () => {
      assert.deepEqual(problemsOf({ ...production, [name]: undefined }), [`${name} is required in production`]);
    });
  }

  test('what would weaken production is refused there and only there', () => {
    const weak = { RATE_LIMITS: 'off', BCRYPT_COST: '9' };
    assert.deepEqual(problemsOf({ ...production, ...weak }), [
      'RATE_LIMITS must not be off in production',
      'BCRYPT_COST must be at least 10 in production',
    ]);
    assert.deepEqual(problemsOf({ ...production, BCRYPT_COST: '10' }), []);
    assert.deepEqual(problemsOf({ ...production, BCRYPT_COST: '4', PASSWORD_HASH: 'argon2id' }), []);
    assert.deepEqual(problemsOf({ SECRET_KEY: newSecret(), ...weak }), []);
  });

  test('lifetimes that contradict each other are refused, and equal ones are not', () => {
    const lives = (access: string, idle: string, max: string) =>
      problemsOf({
        ...production,
        ACCESS_TOKEN_TTL_SECONDS: access,
        SESSION_IDLE_TTL_SECONDS: idle,
        SESSION_MAX_TTL_SECONDS: max,
      });
    assert.deepEqual(lives('300', '300', '300'), []);
    assert.deepEqual(lives('60', '301', '300'), [
      'SESSION_IDLE_TTL_SECONDS must not be longer than SESSION_MAX_TTL_SECONDS',
    ]);
    assert.deepEqual(lives('301', '300', '300'), [
      'ACCESS_TOKEN_TTL_SECONDS must not be longer than SESSION_IDLE_TTL_SECONDS',
    ]);
    assert.equal(lives('900', '800', '700').length, 2);
  });

  test('a word that is not one of the choices is answered with the choices', () => {
    assert.deepEqual(problemsOf({ ...production, NODE_ENV: 'staging' }), [
      'NODE_ENV must be one of development, production, test',
    ]);
    assert.deepEqual(problemsOf({ ...production, PASSWORD_HASH: 'md5' }), [
      'PASSWORD_HASH must be one of bcrypt, argon2id',
    ]);
    assert.deepEqual(problemsOf({ ...production, LOG_LEVEL: 'verbose' }), [
      'LOG_LEVEL must be one of fatal, error, warn, info, debug, trace, silent',
    ]);
  });

  const table: Record<string, { accepted: string[]; refused: string[] }> = {
    PORT: {
      accepted: ['0', '1', '65535'],
      refused: ['-1', '65536', 'http', '80:80', '1_000', '0x22', '1e3', '12.5', ' 80'],
    },
    PUBLIC_URL: {
      accepted: ['https://auth.example.com', 'http://localhost:8000', 'http://[::1]:8000', 'https://10.0.0.1'],
      refused: [
        'auth.example.com',
        'https://',
        'https://auth.example.com/',
        'https://auth.example.com/path',
        'https://auth.example.com?x=1',
        'https://auth.example.com#x',
        'https://user@auth.example.com',
        'ftp://auth.example.com',
        'https://auth example.com',
        'https://auth.example.com:99999',
        'javascript:alert(1)',
      ],
    },
    DATABASE_URL: {
      accepted: [
        'sqlite:/srv/latchkey.db',
        'sqlite::memory:',
        'postgres://db/latchkey',
        'postgresql://u:p@db:5432/x',
        'postgres:///x',
        'postgres://db/x?sslmode=verify-full',
      ],
      refused: [
        'sqlite:',
        'mysql://db/latchkey',
        '/srv/latchkey.db',
        'postgres:latchkey',
        'postgres://db:99999/x',
        'postgres://db/x?sslmode=prefer',
      ],
    },
    DATABASE_POOL_MAX: { accepted: ['1', '200'], refused: ['0', '201'] },
    DATABASE_START_WAIT_SECONDS: { accepted: ['0', '600'], refused: ['-1', '601', '30s'] },
    REDIS_URL: {
      accepted: [
        'redis://cache:6379',
        'rediss://:password@cache:6380/1',
        'redis+sentinel://a,b,c/main',
        'rediss+cluster://user:password@[::1]:7000,cache_2',
      ],
      refused: [
        'cache:6379',
        'http://cache',
        'redis+swarm://cache',
        'redis+cluster+sentinel://cache',
        'redis://',
        'redis:///1',
        'redis://cache:0',
        'redis://cache/main',
        'redis+sentinel://cache',
      ],
    },
    SMTP_URL: {
      accepted: ['smtp://user:password@mail.example.com:587', 'smtps://mail.example.com'],
      refused: ['mail.example.com', 'http://mail.example.com', 'smtp://', 'smtp://mail.example.com:port'],
    },
    MAIL_FROM: {
      accepted: ['no-reply@example.com', 'Example <no-reply@example.com>', 'Ärzte am Platz <a@example.com>'],
      refused: [
        'no-reply',
        'Example',
        'a@example.com, b@example.com',
        'A\r\nBcc: x <a@example.com>',
        '"A" <a@b.example>',
      ],
    },
    CORS_ORIGINS: {
      accepted: ['https://app.example.com', 'https://app.example.com,http://localhost:3000'],
      refused: [
        '*',
        'https://*',
        'https://*.example.com',
        'https://a.example,*',
        'null',
        'https://a.example/',
        'a.example',
      ],
    },
    TRUST_PROXY: {
      accepted: ['10.0.0.1', '10.0.0.0/8, 192.168.1.1', '::1', 'fd00::/8', '::ffff:10.0.0.1', '10.0.0.0/32', '::/128'],
      refused: [
        'true',
        '*',
        'all',
        'loopback',
        'proxy.example.com',
        '10.0.0.1 10.0.0.2',
        '1',
        '10.1',
        '010.0.0.1',
        '10.0.0.256',
        '0x7f.0.0.1',
        '10.0.0.0/33',
        '10.0.0.0/0',
        '10.0.0.0/',
        '10.0.0.0/08',
        '10.0.0.0/255.0.0.0',
        '10.0.0.0/8/8',
        'fd00::/129',
        '::/0',
        'fe80::1%eth0',
      ],
    },
    BCRYPT_COST: { accepted: ['10', '16'], refused: ['3', '17', 'high'] },
    PASSWORD_MIN_LENGTH: { accepted: ['8', '15', '64'], refused: ['7', '65', '-8'] },
    REFRESH_REUSE_GRACE_SECONDS: { accepted: ['0', '300'], refused: ['-1', '301', '30s'] },
    CODE_TTL_SECONDS: { accepted: ['60', '900'], refused: ['59', '901', '5m'] },
    HASH_THREADS: { accepted: ['1', '64'], refused: ['0', '65'] },
    SESSIONS_PER_USER_MAX: { accepted: ['1', '1000'], refused: ['0', '1001'] },
    DOCS: { accepted: ['on', 'off'], refused: ['true', 'ON', 'yes'] },
  };
  for (const [name, { accepted, refused }] of Object.entries(table)) {
    test(`${name} takes what it says and refuses everything else by name`, () => {
      for (const value of accepted) assert.deepEqual(problemsOf({ ...production, [name]: value }), [], value);
      for (const value of refused) {
        const problems = problemsOf({ ...production, [name]: value });
        assert.ok(problems.length > 0, `${value} is refused`);
        assert.ok(
          problems.every((problem) => problem.startsWith(`${name} `)),
          `${value}: ${problems}`,
        );
      }
    });
  }

  test('name every item of TRUST_PROXY that is no address', () => {
    assert.deepEqual(problemsOf({ ...production, TRUST_PROXY: '10.0.0.1,1,::1,a' }), [
      'TRUST_PROXY names "1", which is no IP address or CIDR range',
      'TRUST_PROXY names "a", which is no IP address or CIDR range',
    ]);
  });

  test('say what must be percent-encoded in a URL with a password', () => {
    for (const password of ['hun/ter2', 'hun#ter2', 'hun?ter2', '2#hunter', 'hun%ter2']) {
      const [problem = '', ...more] = problemsOf({ ...production, REDIS_URL: `redis://:${password}@cache` });
      assert.match(problem, /^REDIS_URL .*percent-encoded/, password);
      assert.deepEqual(more, []);
      const encoded = encodeURIComponent(password);
      assert.deepEqual(problemsOf({ ...production, REDIS_URL: `redis://:${encoded}@cache` }), []);
    }
  });
});
