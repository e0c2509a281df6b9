import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { browser } from '../copying.ts';
import { type Answer, get, type Program, post, register, send } from '../program.ts';
import { inScratch, readSqlite } from '../scratch.ts';
import { until } from '../until.ts';
import { readBlocks } from './blocks.ts';
import { paste, whileRunning } from './paste.ts';

const page = 'docs/incidents.md';
const password = 'correct horse battery staple';
const oldSecret = 'Jc0wq2VtR8nYb5KxUe7ZsPd1LfGh4MaT6oQi9WuE3vA=';

const logIn = (program: Program, email: string, typed = password): Promise<Answer> =>
  post(program, '/auth/login', { email, password: typed });
const refresh = (program: Program, { body }: Answer): Promise<Answer> =>
  post(program, '/auth/refresh', { refresh_token: body.refresh_token });
const readMe = (program: Program, { body }: Answer): Promise<Answer> => get(program, '/users/me', body.access_token);

/** A service under attack, and a way to type into its shell. */
type Scene = {
  folder: string;
  environment: Record<string, string>;
  type(block?: string, environment?: Record<string, string>): Promise<string>;
};

function inScene(check: (scene: Scene) => Promise<void>): Promise<void> {
  return inScratch(async (scratch) => {
    const folder = scratch.DATA_DIR;
    const environment = { ...scratch, SECRET_KEY: oldSecret, BACKUPS: join(folder, 'backups'), RATE_LIMITS: 'on' };
    mkdirSync(environment.BACKUPS);
    await check({
      folder,
      environment,
      type: (block = '', others = {}) => paste(block, folder, { ...environment, ...others }),
    });
  });
}

/** The same with the service running. */
function inRunningScene(check: (scene: Scene & { program: Program }) => Promise<void>): Promise<void> {
  return inScene((scene) => whileRunning(scene.environment, (program) => check({ ...scene, program })));
}

// Each pastes the blocks of one part of docs/incidents.md.
test('after a theft of secret and database nothing that was signed or stored before is of use', () =>
  inScene(async ({ folder, environment, type }) => {
    const [generate, revoke, look] = readBlocks(page, 'Somebody has SECRET_KEY', 'sh');
    const ada = await whileRunning(environment, (program) => register(program, 'ada@example.com', password));
    await type(generate);
    const newSecret = readFileSync(join(folder, 'new.key'), 'utf8').trim();
    const both = { SECRET_KEY: `${newSecret},${oldSecret}` };
    await whileRunning({ ...environment, ...both }, async (program) => {
      assert.equal((await readMe(program, ada)).status, 200);
      await type(revoke, both);
      // Every instance learns of it within a second.
      await until(async () => (await readMe(program, ada)).status === 401);
      assert.equal((await refresh(program, ada)).status, 200);
    });

    const alone = { SECRET_KEY: newSecret };
    await whileRunning({ ...environment, ...alone }, async (program) => {
      assert.equal((await refresh(program, ada)).body.code, 'invalid_refresh_token');
      assert.equal((await logIn(program, 'ada@example.com')).body.code, 'invalid_credentials');
      assert.equal((await logInWithCode(program, 'ada@example.com')).status, 200);
      assert.match(await type(look, alone), /keys\.revoked/);
    });
  }));

test('an account that was taken over is closed at once, and given back to its owner', () =>
  inRunningScene(async ({ program, type }) => {
    const [close, open] = readBlocks(page, 'An account was taken over, or a refresh token was stolen', 'sh');
    const ada = await register(program, 'ada@example.com', password);
    assert.match((await type(close)) ?? '', /login|registered|account/);
    assert.deepEqual([(await readMe(program, ada)).status, (await refresh(program, ada)).status], [401, 401]);
    assert.equal((await logIn(program, 'ada@example.com')).status, 401);
    await type(open);
    assert.equal((await refresh(program, ada)).status, 401, 'what was ended stays so');
    assert.equal((await logIn(program, 'ada@example.com')).status, 200);
  }));

test('evidence is kept, keys are listed, and a flood is traced to where it comes from', () =>
  inRunningScene(async ({ program, folder, type }) => {
    await register(program, 'ada@example.com', password);
    await logIn(program, 'ada@example.com', 'a wrong password');
    const fromElsewhere = { email: 'ada@example.com', password };
    await send(program, {
      method: 'POST',
      path: '/auth/login',
      body: fromElsewhere,
      userAgent: browser,
    });
    await type(readBlocks(page, 'Incidents', 'sh')[0]);
    assert.equal(readSqlite(await findBackup(folder), 'select count(*) as n from users')[0]?.n, 1);
    assert.match(await type(readBlocks(page, 'A signing key is in the wrong hands', 'sh')[0]), /active/);
    const [trace, tighten, look] = readBlocks(page, 'Passwords are being guessed, at many accounts at once', 'sh');
    assert.match(await type(trace), /127\.0\.0\.1/);
    await type(tighten);
    assert.match(await type(look), /device\.noticed/);
  }));

test('a trail that was tampered with is found, and so is the backup in which it is whole', () =>
  inRunningScene(async ({ program, folder, type }) => {
    const database = join(folder, 'latchkey.db');
    await register(program, 'ada@example.com', password);
    await until(
      () => Number(readSqlite(database, 'select count(*) as n from audit_events where seal_seq is null')[0]?.n) === 0,
    );
    await type('latchkey backup "$BACKUPS/latchkey-1.db"');
    const writer = new DatabaseSync(database);
    writer.exec(
      "pragma busy_timeout = 5000; update audit_events set client_address = '192.0.2.1' where seal_seq is not null",
    );
    writer.close();
    await assert.rejects(type('latchkey audit verify'), { code: 1 });
    await type('latchkey backup "$BACKUPS/latchkey-2.db"');
    const [find = ''] = readBlocks(page, 'The audit trail is broken', 'sh');
    assert.match(await type(find), /latchkey-1\.db is whole/);
  }));

test('the last administrator is replaced from the command line', () =>
  inRunningScene(async ({ program, type }) => {
    await register(program, 'grace@example.com', password);
    await type(`echo '${password}' | latchkey create-admin --email former-admin@example.com --password-stdin`);
    await type(readBlocks(page, 'The last administrator is gone', 'sh').join('\n'));
    const admins = (await type('latchkey users list --role admin --json')).trim().split('\n');
    const addresses = admins.map((line) => JSON.parse(line).email).sort();
    assert.deepEqual(addresses, ['grace@example.com', 'margaret@example.com']);
  }));

async function findBackup(folder: string): Promise<string> {
  const [name] = (await paste('ls "$BACKUPS"', folder, { BACKUPS: join(folder, 'backups') })).trim().split('\n');
  return join(folder, 'backups', name ?? '');
}

async function logInWithCode(program: Program, email: string): Promise<Answer> {
  const purpose = 'login';
  await post(program, '/auth/send-code', { email, purpose });
  const { body } = await get(program, '/dev/mailbox');
  const code = body.items.find((mail: { to: string }) => mail.to === email).subject.slice(0, 6);
  const proof = await post(program, '/auth/verify-code', { email, purpose, code });
  return post(program, '/auth/login/code', { verification_token: proof.body.verification_token });
}
