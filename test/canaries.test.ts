import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { sql } from 'kysely';
import { dumpDatabase, dumpRedis } from './canaries/dump.ts';
import { listSecrets, noteConfiguration, withoutTokens } from './canaries/exchange-secrets.ts';
import { createRecording } from './canaries/recording.ts';
import { scanRecording } from './canaries/scan.ts';
import { createVault, type Vault } from './canaries/vault.ts';
import { type Call, call, type Reply } from './client.ts';
import { newSecret } from './config.ts';
import { type PrivateServer, reasonToSkip, startPostgres, startRedis } from './faults/servers.ts';
import { converse, host } from './hostile-socket.ts';
import { type CapturedLog, captureLog } from './log.ts';
import { type MailServer, reply, startMailServer } from './mail-server.ts';
import { type Backend, backends, type System, startSystem } from './system.ts';
import { until } from './until.ts';

// Everything that a service holds or is sent, through every flow, every refusal and every failure of a component. What
// is secret is then looked for wherever an operator or an intruder could read. Tokens may be in the one reply that
// hands them over, codes in the mail; passwords and keys nowhere. An address may be in the accounts and in the
// short-lived entries that stand for it.

type Scene = {
  system: System;
  vault: Vault;
  log: CapturedLog;
  mail: MailServer;
  metricsToken: string;
  /** Replies as they must not hold secrets. */
  replies: string[];
  addresses: string[];
  /** Lets every mail server refuse, in words that repeat all it was sent. */
  mailRefuses: boolean;
  postgres: PrivateServer | undefined;
  redis: PrivateServer | undefined;
  redisPassword: string;
  redisDump: string;
};

for (const backend of backends) {
  const skip = backend === 'postgres+redis' && (reasonToSkip('postgres') || reasonToSkip('redis'));
  describe(`canaries (${backend})`, { skip }, () => {
    let scene: Scene;
    before(async () => {
      scene = await openScene(backend);
      await walkFlows(scene);
      await walkRefusals(scene);
      await walkFailures(scene);
    });
    after(() => closeScene(scene));

    test('the walk has met every kind of secret, every outcome and lines of every level', () => {
      assert.ok(scene.vault.size() > 60, `${scene.vault.size()} secrets`);
      const statuses = new Set(scene.log.requests().map(({ status }) => status));
      for (const status of [200, 201, 202, 204, 400, 401, 404, 405, 409, 413, 415, 422, 429, 500, 503])
        assert.ok(statuses.has(status), `no request was answered ${status}`);
      const levels = new Set(scene.log.lines().map(({ level }) => level));
      for (const level of [20, 30, 40, 50]) assert.ok(levels.has(level), `no line has the level ${level}`);
    });

    test('no secret is in the log, and no address', () => {
      assert.deepEqual(scene.vault.search('the log', scene.log.text()), []);
      for (const address of scene.addresses) assert.ok(!scene.log.text().includes(address), address);
    });

    test('no secret is in a reply, but for the tokens that it hands over', () => {
      const found = scene.replies.flatMap((text) => scene.vault.search(text, text));
      assert.deepEqual(found, []);
    });

    test('no secret is in the metrics, and no address', async () => {
      const text = await scene.system.deps.scrape();
      assert.deepEqual(scene.vault.search('the metrics', text), []);
      assert.ok(!text.includes('@'));
    });

    test('no secret is in the database, and an address in no table but those of accounts', async () => {
      const { sealed, open } = await dumpDatabase(scene.system.deps);
      assert.ok(open.includes('users.password_hash lk1:') && sealed.includes('outbox.sealed_message '));
      assert.deepEqual(scene.vault.search('the database', open), []);
      assert.deepEqual(scene.vault.searchSealed('what is sealed in it', sealed), []);
      const elsewhere = `${sealed}${open.replaceAll(/^(?:users|pending_email_changes)\.email .*$/gm, '')}`;
      for (const address of scene.addresses) assert.ok(!elsewhere.includes(address), address);
    });

    test('no secret is in Redis', { skip: backend === 'sqlite+memory' && 'it is not used' }, async () => {
      await keepRedis(scene);
      for (const part of [':code:', ':token:', ':sends', 'sessions:', 'limit:'])
        assert.ok(scene.redisDump.includes(part), `no key of ${part}`);
      assert.deepEqual(scene.vault.search('Redis', scene.redisDump), []);
    });
  });
}

describe('the search for secrets', () => {
  const secret = 'K7pQ2vX9rT4mZ8wN3cB6yH1j';
  const vault = createVault();
  vault.note('a secret', secret);
  vault.note('a code', '7KQ2ZD');
  vault.note('a password', 'correct horse "battery" stäple');
  vault.note('a key', Buffer.from('00112233445566778899aabbccddeeff0123456789', 'hex'));
  const leaks: Record<string, string> = {
    'as it is': `token=${secret}.`,
    'in base64, at any place': [0, 1, 2, 3].map((shift) => btoa(`${'x'.repeat(shift)}${secret}yz`)).join(' '),
    'in base64url': Buffer.from(`{"t":"${secret}"}`).toString('base64url'),
    'in hexadecimal digits': Buffer.from(secret).toString('hex'),
    'in upper-case ones': Buffer.from(secret).toString('hex').toUpperCase(),
    'in part': `…${secret.slice(5, 21)}…`,
    'a code between other words': 'code 7KQ2ZD, sent',
    'a code in base64': `x ${btoa('7KQ2ZD')} y`,
    'a password, percent-encoded': encodeURIComponent('correct horse "battery" stäple'),
    'a password in a form': new URLSearchParams({ p: 'correct horse "battery" stäple' }).toString(),
    'a password in JSON': JSON.stringify({ p: 'correct horse "battery" stäple' }),
    'a password in JSON in JSON': JSON.stringify(JSON.stringify({ p: 'correct horse "battery" stäple' })),
    'a key in base64': Buffer.from('00112233445566778899aabbccddeeff0123456789', 'hex').toString('base64'),
  };
  for (const [name, text] of Object.entries(leaks)) {
    test(`finds one ${name}`, () => {
      const parts = name === 'in base64, at any place' ? text.split(' ') : [text];
      for (const part of parts) assert.equal(vault.search('a text', `before ${part} after`).length > 0, true, part);
    });
  }

  test('finds nothing where there is none, nor in a part that is too short to be one', () => {
    const innocent = [secret.slice(0, 15), 'correct horse', '17KQ2ZD', '7kq2zd', randomBytes(3_000).toString('base64')];
    for (const text of innocent) assert.deepEqual(vault.search('a text', text), [], text);
  });

  test('sees a leak that is planted in the log, the database and a reply', async () => {
    const log = captureLog();
    const system = await startSystem('sqlite+memory', { LOG_LEVEL: 'trace' }, log);
    try {
      system.deps.log.info({ harmless: `x${secret}x` }, 'a mistake');
      const users = sql`insert into roles (name, description, permissions, created_at) values ('r', ${secret}, '[]', 0)`;
      await users.execute(system.deps.db);
      assert.deepEqual(
        vault.search('the log', log.text()).map(({ kind }) => kind),
        ['a secret'],
      );
      const { open } = await dumpDatabase(system.deps);
      assert.deepEqual(
        vault.search('the database', open).map(({ kind }) => kind),
        ['a secret'],
      );
      const body = withoutTokens(JSON.stringify({ access_token: secret, detail: secret }));
      assert.equal(vault.search('a reply', body).length, 1);
    } finally {
      await system.close();
    }
  });
});

describe('the search of a whole run', () => {
  test('finds what was planted in each of its files, also across the parts in which they are read', () => {
    const folder = mkdtempSync(join(tmpdir(), 'latchkey-canaries-'));
    try {
      const { secret, text } = createRecording(folder);
      const [token, key] = [newSecret(), randomBytes(32)];
      secret('a token', token);
      secret('a key', key);
      secret('code', '7KQ2ZD');
      for (const place of ['log', 'replies', 'metrics', 'database', 'redis', 'sealed'] as const)
        text(place, 'harmless 7KQ2ZX');
      assert.deepEqual(scanRecording(folder).findings, []);
      const filler = 'a1 '.repeat(((1 << 16) - 40) / 3);
      text('log', `${filler}${token}`);
      text('replies', `${key.toString('base64')} 7KQ2ZD`);
      text('sealed', `7KQ2ZD ${key.toString('hex')}`);
      const found = scanRecording(folder, 1 << 16).findings.map(
        ({ kind, place }) => `${kind} in ${place.split('.')[1]}`,
      );
      const expected = ['a token in log', 'a key in replies', 'code in replies', 'a key in sealed'];
      assert.deepEqual([...new Set(found)].sort(), expected.sort());
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

async function openScene(backend: Backend): Promise<Scene> {
  const [mailPassword, redisPassword, databasePassword] = [newSecret(), newSecret(), newSecret()];
  const scene = {
    vault: createVault(),
    log: captureLog(),
    replies: [],
    addresses: [],
    mailRefuses: false,
  } as never as Scene;
  const mail = await startMailServer({
    allowInsecureAuth: true,
    onAuth: ({ username, password }, _session, done) => {
      if (!scene.mailRefuses && password === mailPassword) done(null, { user: username ?? '' });
      else done(reply(535, `5.7.8 ${username} may not log in with ${password}`));
    },
    // A connection that is kept has logged in before the server refuses.
    onRcptTo: ({ address }, _session, done) => {
      done(scene.mailRefuses ? reply(451, `4.2.1 <${address}> is not known here`) : undefined);
    },
  });
  const environment: Record<string, string> = {
    SMTP_URL: `smtp://latchkey:${mailPassword}@127.0.0.1:${mail.port}?tls=off`,
    METRICS_TOKEN: newSecret(),
    HASH_THREADS: '1',
    HASH_QUEUE_MAX: '1',
    BCRYPT_COST: '6',
    RATE_LIMITS: 'on',
    LOG_LEVEL: 'trace',
  };
  let [postgres, redis]: [PrivateServer | undefined, PrivateServer | undefined] = [undefined, undefined];
  if (backend === 'postgres+redis') {
    [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
    // Set when it runs: the helper that waits for it has no password.
    await setRedisPassword(redis.url, redisPassword);
    environment.DATABASE_URL = postgres.url.replace('postgres@', `postgres:${databasePassword}@`);
    environment.REDIS_URL = redis.url.replace('redis://', `redis://:${redisPassword}@`);
  }
  const system = await startSystem('sqlite+memory', environment, scene.log);
  noteConfiguration(scene.vault, system.deps);
  const metricsToken = environment.METRICS_TOKEN ?? '';
  return Object.assign(scene, { system, mail, metricsToken, postgres, redis, redisPassword, redisDump: '' });
}

/** Adds what is in Redis now, because it loses that when it stops. */
async function keepRedis(scene: Scene): Promise<void> {
  scene.redisDump += await dumpRedis(scene.system.deps.config.environment.REDIS_URL ?? '', '');
}

async function closeScene(scene: Scene | undefined): Promise<void> {
  scene?.postgres?.thaw();
  await scene?.system.close();
  await scene?.mail.stop();
  await Promise.all([scene?.postgres?.remove(), scene?.redis?.remove()]);
}

async function setRedisPassword(url: string, password: string): Promise<void> {
  const { createClient } = await import('@redis/client');
  const client = createClient({ url });
  await client.connect();
  await client.configSet('requirepass', password);
  client.destroy();
}

let clients = 0;

/** Makes a request from an address of its own, and remembers what is secret in it and in the reply. */
async function ask(scene: Scene, method: Call['method'], path: string, rest: Partial<Call> = {}): Promise<Reply> {
  clients += 1;
  const remoteAddress = `10.${clients >> 16}.${(clients >> 8) & 255}.${clients & 255}`;
  const answer = await call(scene.system, { method, path, remoteAddress, ...rest });
  // The `code` of a problem is no code.
  const handedOver = answer.status < 300 ? answer.body : undefined;
  for (const body of [rest.body, handedOver])
    for (const [kind, secret] of listSecrets(body)) scene.vault.note(kind, secret);
  scene.replies.push(withoutTokens(`${method} ${JSON.stringify(answer.headers)} ${answer.text}`));
  return answer;
}

function newAddress(scene: Scene): string {
  const address = `person-${randomBytes(9).toString('hex')}@example.com`;
  scene.addresses.push(address);
  return address;
}

const newPassword = () => `pässword "${randomBytes(15).toString('base64')}"`;

async function askForCode(scene: Scene, email: string, purpose: string): Promise<string> {
  scene.system.clock.advanceSeconds(61);
  await ask(scene, 'POST', '/auth/send-code', { body: { email, purpose } });
  return readCode(scene, email);
}

async function readCode({ system, mail, vault }: Scene, email: string): Promise<string> {
  await system.deps.outbox.deliverDue();
  const subjects = mail.received
    .filter(({ to }) => to.includes(email))
    .map(({ data }) => /^Subject: (.+)/m.exec(data)?.[1]);
  const code = subjects.findLast((subject) => subject?.includes(' is your code'))?.slice(0, 6) ?? '';
  assert.equal(code.length, 6, subjects.join());
  vault.note('code', code);
  return code;
}

async function prove(scene: Scene, email: string, purpose: string): Promise<string> {
  const code = await askForCode(scene, email, purpose);
  return (await verify(scene, email, purpose, code)).body.verification_token;
}

function verify(scene: Scene, email: string, purpose: string, code: string): Promise<Reply> {
  return ask(scene, 'POST', '/auth/verify-code', { body: { email, purpose, code } });
}

async function registerPerson(scene: Scene) {
  const [email, password] = [newAddress(scene), newPassword()];
  const verification_token = await prove(scene, email, 'registration');
  const { body, status } = await ask(scene, 'POST', '/auth/register', { body: { verification_token, password } });
  assert.equal(status, 201);
  return { email, password, token: body.access_token as string, refreshToken: body.refresh_token as string };
}

async function walkFlows(scene: Scene): Promise<void> {
  const person = await registerPerson(scene);
  const { email, token } = person;
  await askForCode(scene, email, 'login');
  scene.system.clock.advanceSeconds(61);
  await ask(scene, 'POST', '/auth/send-code', { body: { email, purpose: 'registration' } });
  await ask(scene, 'POST', '/auth/login', { body: { email, password: person.password } });
  const proof = await prove(scene, email, 'login');
  await ask(scene, 'POST', '/auth/login/code', { body: { verification_token: proof } });
  await ask(scene, 'POST', '/auth/reauthenticate', { token, body: { password: person.password } });
  for (const path of ['/users/me', '/users/me/sessions', '/users/me/export']) await ask(scene, 'GET', path, { token });
  await ask(scene, 'PATCH', '/users/me', { token, body: { name: 'Ada' } });
  const password = newPassword();
  const change = { current_password: person.password, new_password: password };
  await ask(scene, 'PUT', '/users/me/password', { token, body: change });
  const nextEmail = newAddress(scene);
  await ask(scene, 'POST', '/auth/reauthenticate', { token, body: { password } });
  assert.equal((await ask(scene, 'POST', '/users/me/email', { token, body: { email: nextEmail } })).status, 202);
  const code = await readCode(scene, nextEmail);
  const moved = (await verify(scene, nextEmail, 'email_change', code)).body.verification_token;
  assert.equal(
    (await ask(scene, 'PUT', '/users/me/email', { token, body: { verification_token: moved } })).status,
    200,
  );
  // A reuse: one rotation, and the old token again after the grace.
  const other = await ask(scene, 'POST', '/auth/login', { body: { email: nextEmail, password } });
  const { refresh_token } = other.body;
  const rotated = await ask(scene, 'POST', '/auth/refresh', { body: { refresh_token } });
  await ask(scene, 'POST', '/auth/refresh', { body: { refresh_token } });
  scene.system.clock.advanceSeconds(31);
  assert.equal((await ask(scene, 'POST', '/auth/refresh', { body: { refresh_token } })).status, 401);
  await ask(scene, 'POST', '/auth/refresh', { body: { refresh_token: rotated.body.refresh_token } });
  const reset = await prove(scene, nextEmail, 'password_reset');
  const body = { verification_token: reset, new_password: newPassword() };
  assert.equal((await ask(scene, 'POST', '/auth/reset-password', { body })).status, 204);
  const leaver = await registerPerson(scene);
  await ask(scene, 'POST', '/auth/logout', { body: { refresh_token: (await registerPerson(scene)).refreshToken } });
  assert.equal((await ask(scene, 'DELETE', '/users/me', { token: leaver.token })).status, 204);
  await scene.system.deps.outbox.deliverDue();
}

async function walkRefusals(scene: Scene): Promise<void> {
  const { system, vault } = scene;
  const { email, token, password, refreshToken } = await registerPerson(scene);
  const wrong = newPassword();
  await ask(scene, 'POST', '/auth/login', { body: { email, password: wrong } });
  await ask(scene, 'POST', '/auth/login', { body: { email: newAddress(scene), password: wrong } });
  await ask(scene, 'POST', '/auth/reauthenticate', { token, body: { password: wrong } });
  await ask(scene, 'PUT', '/users/me/password', { token, body: { current_password: wrong, new_password: wrong } });
  await ask(scene, 'PUT', '/users/me/password', {
    token,
    body: { current_password: password, new_password: 'password123' },
  });
  await ask(scene, 'POST', '/auth/send-code', { body: { email, purpose: 'login' } });
  for (const guess of ['7KQ2ZD', 'ZZZZZ7', 'no code']) await verify(scene, email, 'login', guess);
  const taken = await askForCode(scene, newAddress(scene), 'registration');
  const racer = scene.addresses.at(-1) ?? '';
  const proofs = [(await verify(scene, racer, 'registration', taken)).body.verification_token];
  scene.system.clock.advanceSeconds(61);
  await ask(scene, 'POST', '/auth/reauthenticate', { token, body: { password } });
  await ask(scene, 'POST', '/users/me/email', { token, body: { email: racer } });
  const change = (await verify(scene, racer, 'email_change', await readCode(scene, racer))).body.verification_token;
  for (const verification_token of proofs)
    await ask(scene, 'POST', '/auth/register', { body: { verification_token, password } });
  await ask(scene, 'POST', '/auth/register', { body: { verification_token: proofs[0], password } });
  await ask(scene, 'PUT', '/users/me/email', { token, body: { verification_token: change } });
  await ask(scene, 'POST', '/auth/refresh', { body: { refresh_token: `${refreshToken.slice(0, -6)}AAAAAA` } });

  // Secrets where they do not belong, and bodies that cannot be read.
  const stray = newSecret();
  vault.note('a stray secret', stray);
  const json = { 'content-type': 'application/json' };
  const bodies = [
    `{"email":"${email}","password":"${wrong}`,
    `{"password":"${stray}"`,
    `"${stray}"`,
    `[${stray}]`,
    stray,
  ];
  bodies.push(
    JSON.stringify({ email, password: wrong, unknown: stray }),
    JSON.stringify({ email: stray, password: [stray] }),
  );
  bodies.push(JSON.stringify({ email, password: `${stray}${'x'.repeat(300)}` }), `{"a":"${stray}","a":1}`);
  for (const path of ['/auth/login', '/auth/register', '/auth/refresh', '/auth/verify-code'])
    for (const rawBody of bodies) await refuse(scene, 'POST', path, { rawBody, headers: json });
  await refuse(scene, 'POST', '/auth/login', { rawBody: stray, headers: { 'content-type': `text/${stray}` } });
  await refuse(scene, 'POST', '/auth/login', { rawBody: stray.repeat(1_000), headers: json });
  for (const path of [`/${stray}`, `/users/me?access_token=${stray}`, `/users/me/sessions/${stray}`, `/%zz${stray}`]) {
    await refuse(scene, 'GET', path, {});
    await refuse(scene, 'DELETE', path, { headers: { authorization: `Bearer ${stray}` } });
  }
  const authorizations = [`Bearer ${stray}`, `Basic ${btoa(`user:${stray}`)}`, `Bearer ${token}x`, stray];
  for (const authorization of authorizations)
    for (const path of ['/users/me', '/metrics']) await refuse(scene, 'GET', path, { headers: { authorization } });
  await refuse(scene, 'GET', '/metrics', { headers: { authorization: `Bearer ${scene.metricsToken}` } });
  for (const bytes of [
    `${stray}\r\n\r\n`,
    `GET /${stray} HTTP/9.9\r\n\r\n`,
    `GET / HTTP/1.1\r\n${host}\r\nX-Token: ${stray.repeat(600)}\r\n\r\n`,
    `POST /auth/login HTTP/1.1\r\n${host}\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n${stray}\r\n`,
    `GET / HTTP/1.1\r\n${host}\r\nExpect: ${stray}\r\nConnection: close\r\n\r\n`,
  ])
    scene.replies.push(await converse(system, bytes));
}

/** A request that is no part of the API's contract; what came back is kept all the same. */
async function refuse({ system, replies }: Scene, method: 'GET' | 'POST' | 'DELETE', url: string, rest: Partial<Call>) {
  const { rawBody, headers = {} } = rest;
  const remoteAddress = `10.200.${replies.length >> 8}.${replies.length & 255}`;
  const options = { method, url, headers, remoteAddress, ...(rawBody === undefined ? {} : { payload: rawBody }) };
  const { body, headers: replied } = await system.app.inject(options);
  replies.push(`${JSON.stringify(replied)} ${body}`);
}

async function walkFailures(scene: Scene): Promise<void> {
  const { system, postgres, redis } = scene;
  const { deps } = system;
  const { email, token, password, refreshToken } = await registerPerson(scene);
  const requests = async () => {
    await ask(scene, 'GET', '/users/me', { token });
    await ask(scene, 'POST', '/auth/login', { body: { email, password } });
    await ask(scene, 'POST', '/auth/refresh', { body: { refresh_token: refreshToken } });
    system.clock.advanceSeconds(61);
    await ask(scene, 'POST', '/auth/send-code', { body: { email, purpose: 'login' } });
    await verify(scene, email, 'login', '7KQ2ZD');
    await ask(scene, 'POST', '/auth/register', {
      body: { verification_token: `${'a'.repeat(22)}.${newSecret()}`, password },
    });
  };
  // A proof that nobody uses is what short-lived state holds.
  await prove(scene, newAddress(scene), 'registration');
  if (redis !== undefined) await keepRedis(scene);
  // Hash queue: one works, one waits, and the others are refused.
  await Promise.all(Array.from({ length: 6 }, () => ask(scene, 'POST', '/auth/login', { body: { email, password } })));
  // Statements that fail with their parameters at hand.
  for (const table of ['sessions', 'audit_events', 'outbox', 'users'] as const) {
    await deps.db.schema.alterTable(table).renameTo(`${table}_away`).execute();
    await requests();
    await deps.outbox.deliverDue().catch(() => {});
    await deps.db.schema.alterTable(`${table}_away`).renameTo(table).execute();
  }
  scene.mailRefuses = true;
  for (let round = 0; round < 3; round += 1) {
    system.clock.advanceSeconds(400);
    await requests();
    await deps.outbox.deliverDue();
  }
  if (postgres !== undefined && redis !== undefined) await breakBackends(scene, postgres, redis, requests);
  // One mail is left waiting.
  await scene.mail.stop();
  system.clock.advanceSeconds(61);
  const waiting = await ask(scene, 'POST', '/auth/send-code', {
    body: { email: newAddress(scene), purpose: 'registration' },
  });
  assert.equal(waiting.status, 202);
}

async function breakBackends(
  scene: Scene,
  postgres: PrivateServer,
  redis: PrivateServer,
  requests: () => Promise<void>,
): Promise<void> {
  const { deps } = scene.system;
  await redis.stop();
  await requests();
  await redis.start().catch(() => {});
  await postgres.stop();
  await requests();
  await deps.outbox.deliverDue().catch(() => {});
  await deps.scrape();
  await postgres.start();
  await setRedisPassword(redis.url, scene.redisPassword);
  await until(() =>
    deps.database.ping().then(
      () => true,
      () => false,
    ),
  );
  await until(() => deps.redis?.isReady === true, 10_000);
}
