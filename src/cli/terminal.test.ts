import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { styleText } from 'node:util';
import { readSqlite } from '../../test/scratch.ts';
import { createScratch } from '../../test/system.ts';
import { openTerminal } from '../../test/terminal.ts';

const password = 'correct horse battery staple';
// What a terminal sends for the keys.
const [interrupt, backspace] = ['\u0003', '\u007f'];
const ada = 'ada@example.com';

describe('on a terminal', () => {
  let cwd: string;
  let remove: () => Promise<void>;
  const open = (args: string[], environment: Record<string, string> = {}) =>
    openTerminal(args, { cwd, DATA_DIR: '.', BCRYPT_COST: '4', ...environment });
  const listRoles = (email: string) => {
    const query = `select role_name from users join user_roles on user_id = id where email = '${email}' order by role_name`;
    return readSqlite(join(cwd, 'latchkey.db'), query).map(({ role_name }) => role_name);
  };

  before(async () => {
    const scratch = await createScratch('sqlite+memory');
    cwd = scratch.environment.DATA_DIR ?? '';
    remove = scratch.remove;
  });
  after(() => remove?.());

  test('create-admin asks until address and password will do, and never shows what is typed as a password', async () => {
    const terminal = open(['create-admin']);
    await terminal.answer(/E-mail address: $/, 'ada at home');
    await terminal.answer(/"ada at home" is not an e-mail address[\s\S]+E-mail address: $/, 'Ada@Example.COM');
    await terminal.answer(/A password of 8 characters or more; [\s\S]+Password: $/, 'password1');
    await terminal.answer(/it is one of the most common passwords\.[\s\S]+Password: $/, password);
    await terminal.answer(/The same again: $/, 'correct horse battery stable');
    await terminal.answer(/The two are not the same\.[\s\S]+Password: $/, `${password}!${backspace}`);
    await terminal.answer(/The same again: $/, password);
    assert.equal(await terminal.ended, 0, terminal.screen());
    assert.match(terminal.screen(), /ada@example\.com is an administrator and can log in \(id [0-9a-f-]{36}\)\./);
    for (const typed of ['password1', 'correct', 'staple', 'stable', '***']) {
      assert.ok(!terminal.screen().includes(typed), `${typed} was shown`);
    }
    assert.deepEqual(listRoles(ada), ['admin', 'user']);
    const [user] = readSqlite(join(cwd, 'latchkey.db'), 'select status, password_hash from users');
    assert.equal(user?.status, 'active');
    assert.match(String(user?.password_hash), /^lk1:/);
  });

  test('Ctrl-C at the question for a password ends it with 130, and nobody was made', async () => {
    const terminal = open(['create-admin', '--email', 'bob@example.com']);
    await terminal.press(/Password: $/, `half a pass${interrupt}`);
    assert.equal(await terminal.ended, 130, terminal.screen());
    assert.match(terminal.screen(), /Interrupted: nothing was done\./);
    assert.doesNotMatch(terminal.screen(), /half/);
    assert.deepEqual(listRoles('bob@example.com'), []);
  });

  test('an empty password sends an invitation', async () => {
    const terminal = open(['create-admin', '--email', 'eve@example.com']);
    await terminal.answer(/Password: $/, '');
    assert.equal(await terminal.ended, 0, terminal.screen());
    assert.match(terminal.screen(), /eve@example\.com is invited as an administrator /);
    const waiting = readSqlite(join(cwd, 'latchkey.db'), 'select count(*) as count from outbox');
    assert.deepEqual(Number(waiting[0]?.count), 1);
  });

  test('what destroys wants a word typed: another one leaves everything as it is', async () => {
    const wrong = open(['users', 'delete', 'eve@example.com']);
    await wrong.answer(/is deleted for good, [\s\S]+Type eve@example\.com to go on: $/, 'yes');
    assert.equal(await wrong.ended, 3, wrong.screen());
    assert.deepEqual(listRoles('eve@example.com'), ['admin', 'user']);
    const right = open(['users', 'delete', 'eve@example.com']);
    await right.answer(/Type eve@example\.com to go on: $/, 'eve@example.com');
    assert.equal(await right.ended, 0, right.screen());
    assert.deepEqual(listRoles('eve@example.com'), []);
  });

  test('doctor says in colour what is wrong, why it matters and what to do, and ends with 1', async () => {
    const terminal = open(['doctor'], { SMTP_URL: 'smtp://127.0.0.1:1' });
    assert.equal(await terminal.ended, 1, terminal.screen());
    const lines = terminal.screen().split(/\r?\n/);
    const red = styleText('red', 'PROBLEM  ', { validateStream: false });
    const at = lines.findIndex((line) => line.startsWith(red));
    assert.equal(
      lines[at],
      `${red}The mail server 127.0.0.1:1 does not let us in: CONN failed: ECONNREFUSED.`,
      terminal.screen(),
    );
    assert.match(lines[at + 1] ?? '', /^ {9}Why: No code arrives: /);
    assert.match(lines[at + 2] ?? '', /^ {9}Do: {2}Check host and port in SMTP_URL/);
    const green = styleText('green', 'ok       ', { validateStream: false });
    assert.ok(lines.some((line) => line.startsWith(`${green}SECRET_KEY has the fingerprint `)));
    assert.match(terminal.screen(), /1 problem, 1 warning, \d+ ok\./);
  });
});
