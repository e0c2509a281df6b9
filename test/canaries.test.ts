import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { sql } from 'kysely';
import { dumpDatabase } from './canaries/dump.ts';
import { withoutTokens } from './canaries/exchange-secrets.ts';
import { createRecording } from './canaries/recording.ts';
import { scanRecording } from './canaries/scan.ts';
import { closeScene, keepRedis, openScene, type Scene } from './canaries/scene.ts';
import { createVault } from './canaries/vault.ts';
import { walkFailures, walkFlows, walkRefusals } from './canaries/walk.ts';
import { newSecret } from './config.ts';
import { reasonToSkip } from './faults/servers.ts';
import { captureLog } from './log.ts';
import { backends, startSystem } from './system.ts';

// Everything that a service holds or is sent, through every flow, every refusal and every failure of a component. What
// is secret is then looked for wherever an operator or an intruder could read. Tokens may be in the one reply that
// hands them over, codes in the mail; passwords and keys nowhere. An address may be in the accounts and in the
// short-lived entries that stand for it.

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
