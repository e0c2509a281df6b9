import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import type { SMTPServerOptions } from 'smtp-server';
import { createAuthority } from '../../test/certificates.ts';
import { newSecret, production } from '../../test/config.ts';
import { findingsOf } from '../../test/doctor.ts';
import { ask, startCluster, startWatchedRedis } from '../../test/faults/redis-groups.ts';
import { reasonToSkip, startRedis } from '../../test/faults/servers.ts';
import { startMailServer } from '../../test/mail-server.ts';
import { findFreePort } from '../../test/ports.ts';
import { reasonToSkipLong } from '../../test/thorough.ts';

const folder = { DATA_DIR: '/nowhere', SECRET_KEY: newSecret() };
const lookAtRedis = (REDIS_URL: string) => findingsOf({ ...folder, REDIS_URL });

describe('doctor on Redis', { skip: reasonToSkip('redis') }, () => {
  test('a sound server is ok with its version, latency and clock, and keeps nothing of the look', async () => {
    const server = await startRedis(['maxmemory-policy noeviction']);
    try {
      const { troubles, get } = await lookAtRedis(server.url);
      assert.deepEqual(troubles, []);
      assert.match(get('redis_server').what, /is version \d+\.\d+/);
      assert.match(get('redis_latency').what, /answers in \d+\.\d ms\.$/);
      assert.equal(get('clock').state, 'ok');
      const [key] = await ask<string[]>(server.url, ['KEYS', '*']);
      if (key !== undefined) assert.ok((await ask<number>(server.url, ['PTTL', key])) <= 1_000);
    } finally {
      await server.remove();
    }
  });

  test('one that may evict keys is a warning that says what to set', async () => {
    const server = await startRedis(['maxmemory-policy allkeys-lru']);
    try {
      const { get, problems } = await lookAtRedis(server.url);
      assert.deepEqual(problems, []);
      assert.deepEqual(get('redis_server'), {
        check: 'redis_server',
        state: 'warning',
        what: `Redis at ${new URL(server.url).host} may evict keys when its memory is full (maxmemory-policy is allkeys-lru).`,
        why: 'Codes, limits and the marks of revoked sessions could vanish before their time.',
        remedy: 'Set maxmemory-policy to noeviction.',
      });
    } finally {
      await server.remove();
    }
  });

  test('one that is away, asks for another password or forbids scripts is a problem, and no password is shown', async () => {
    const server = await startRedis(['user limited on >secret ~* +@all -@scripting']);
    await ask(server.url, ['CONFIG', 'SET', 'requirepass', 'right']);
    const { host } = new URL(server.url);
    const cases: [string, RegExp][] = [
      [`redis://127.0.0.1:${await findFreePort()}`, /cannot be used: .*ECONNREFUSED/],
      [`redis://${host}`, /cannot be used: NOAUTH/],
      [`redis://:hunter2@${host}`, /cannot be used: WRONGPASS/],
      [`redis://limited:secret@${host}`, /cannot be used: NOPERM/],
      [`rediss://${host}`, /cannot be used: /],
    ];
    try {
      for (const [url, expected] of cases) {
        const { get, findings } = await lookAtRedis(url);
        assert.equal(get('redis_server').state, 'problem', url);
        assert.match(get('redis_server').what, expected);
        assert.doesNotMatch(JSON.stringify(findings), /hunter2|secret@/);
      }
    } finally {
      await server.remove();
    }
  });

  test('sentinels and clusters that do not answer, or are none, are problems', async () => {
    const server = await startRedis();
    const { host } = new URL(server.url);
    const free = await findFreePort();
    try {
      const cases: [string, RegExp][] = [
        [`redis+sentinel://127.0.0.1:${free}/main`, /no sentinel names the master/],
        [`redis+sentinel://${host}/main`, /no sentinel names the master/],
        [`redis+cluster://127.0.0.1:${free}`, /no server answers as one of a cluster \(.*ECONNREFUSED/],
        [`redis+cluster://${host}`, /no server answers as one of a cluster \(.*cluster support disabled/],
      ];
      for (const [url, expected] of cases) assert.match((await lookAtRedis(url)).get('redis').what, expected);
    } finally {
      await server.remove();
    }
  });

  test('every server of a cluster is looked at, and one that lost its slots is a problem', {
    skip: reasonToSkipLong,
  }, async () => {
    const cluster = await startCluster();
    try {
      const sound = await lookAtRedis(cluster.url);
      assert.deepEqual(sound.problems, []);
      assert.equal(sound.findings.filter(({ check }) => check === 'redis_server').length, 3);
      await cluster.masters[2]?.stop();
      const { get } = await lookAtRedis(cluster.url);
      assert.equal(get('redis_server').state, 'problem');
    } finally {
      await cluster.remove();
    }
  });

  test('of a watched master each sentinel and the master are looked at', { skip: reasonToSkipLong }, async () => {
    const watched = await startWatchedRedis();
    try {
      const sound = await lookAtRedis(watched.url);
      assert.deepEqual(sound.problems, []);
      assert.equal(sound.findings.filter(({ check }) => check === 'redis_server').length, watched.sentinels.length + 1);
      await watched.sentinels[0]?.stop();
      assert.equal((await lookAtRedis(watched.url)).get('redis_server').state, 'problem');
    } finally {
      await watched.remove();
    }
  });
});

describe('doctor on the mail server', () => {
  const started: { stop(): unknown }[] = [];
  after(() => Promise.all(started.map((server) => server.stop())));

  async function start(options: SMTPServerOptions = {}) {
    const server = await startMailServer({
      onAuth: (auth, _session, done) =>
        done(
          null,
          auth.password === 'right' ? { user: 'user' } : { message: `no ${auth.password}`, responseCode: 535 },
        ),
      ...options,
    });
    started.push(server);
    return server;
  }

  const look = (SMTP_URL: string, more: Record<string, string> = {}) =>
    findingsOf({ ...production, ...folder, MAIL_FROM: 'Latchkey <no-reply@mail.net>', SMTP_URL, ...more });

  test('one that lets us in is ok, and gets no mail', async () => {
    const server = await start();
    const { get } = await look(server.url);
    assert.match(get('mail').what, /lets us in: greeting, no TLS, on this machine, no login\. No mail was sent\.$/);
    assert.deepEqual([get('mail').state, get('mail_sender').state], ['ok', 'ok']);
    assert.deepEqual([server.received, server.tried], [[], []]);
  });

  test('a wrong password, a missing offer of TLS, a strange certificate and silence are told apart', async () => {
    const plain = await start();
    const { cert, key } = createAuthority().issue(['127.0.0.1']);
    const encrypted = await start({ cert, key });
    const free = await findFreePort();
    const cases: [string, RegExp, RegExp][] = [
      [
        `smtp://user:hunter2@127.0.0.1:${plain.port}?tls=off`,
        /AUTH .+ failed: the server replied 535/,
        /Correct user and password/,
      ],
      [`smtp://user:right@127.0.0.1:${plain.port}`, /STARTTLS failed/, /The server offers no TLS here/],
      [`smtp://user:right@127.0.0.1:${encrypted.port}`, /failed: /, /NODE_EXTRA_CA_CERTS/],
      [`smtp://127.0.0.1:${free}`, /CONN failed: ECONNREFUSED/, /Check host and port/],
    ];
    for (const [url, what, remedy] of cases) {
      const { get, findings } = await look(url);
      assert.equal(get('mail').state, 'problem');
      assert.match(get('mail').what, what);
      assert.match(get('mail').remedy ?? '', remedy);
      assert.doesNotMatch(JSON.stringify(findings), /hunter2/);
    }
  });

  test('a sender of a domain that nobody can have is a problem in production and a warning elsewhere', async () => {
    const { url } = await start();
    for (const MAIL_FROM of ['no-reply@localhost', 'Latchkey <no-reply@example.com>', 'a@auth.internal']) {
      assert.equal((await look(url, { MAIL_FROM })).state('mail_sender'), 'problem', MAIL_FROM);
    }
    const elsewhere = await findingsOf({ ...folder, SMTP_URL: url });
    assert.equal(elsewhere.state('mail_sender'), 'warning');
  });
});
