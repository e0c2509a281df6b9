import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startCommand } from '../../test/copying.ts';
import { findFreePort } from '../../test/ports.ts';
import { createScratch } from '../../test/system.ts';

const password = 'a passphrase of the command line';
const idForm = /^[0-9a-f]{8}-[0-9a-f-]{27}$/;
const ada = 'ada@example.com';

describe('what commands answer', () => {
  let cwd: string;
  let remove: () => Promise<void>;
  const environment = () => ({ cwd, DATA_DIR: '.', BCRYPT_COST: '4' });
  const run = (args: string[], input?: string) => startCommand(args, environment(), input).ended;

  before(async () => {
    const scratch = await createScratch('sqlite+memory');
    cwd = scratch.environment.DATA_DIR ?? '';
    remove = scratch.remove;
    await run(['create-admin', '--email', ada, '--password-stdin'], password);
  });
  after(() => remove?.());

  test('create-admin explains a rejected password, invites without one, and leaves an existing password alone', async () => {
    const bob = 'bob@example.com';
    const [weak, empty, again, taken, invited] = await Promise.all([
      run(['create-admin', '--email', bob, '--password-stdin'], 'password1'),
      run(['create-admin', '--email', bob, '--password-stdin'], ''),
      run(['create-admin', '--email', ada]),
      run(['create-admin', '--email', ada, '--password-stdin'], password),
      run(['create-admin', '--email', `c${bob}`, '--json']),
    ]);
    assert.match(
      weak.stderr,
      /^Nothing was done\. This password cannot be used: it is one of the most common passwords\./,
    );
    assert.equal(empty.stderr, 'The password is empty.\n');
    assert.match(again.stdout, / is an administrator already /);
    assert.match(taken.stderr, /has an account already, whose password stays as it is\./);
    assert.deepEqual(
      [weak, empty, again, taken, invited].map(({ code }) => code),
      [1, 1, 0, 1, 0],
    );
    const { id, ...rest } = JSON.parse(invited.stdout);
    assert.match(id, idForm);
    assert.deepEqual([rest.outcome, rest.status, rest.roles.toSorted()], ['invited', 'invited', ['admin', 'user']]);
    assert.equal((await run(['users', 'show', bob])).code, 1, 'nobody was made');
  });

  test('the last administrator stays, and roles, users and events that do not exist are named', async () => {
    const outcomes = await Promise.all([
      run(['users', 'disable', ada, '--yes']),
      run(['users', 'delete', ada, '--yes']),
      run(['users', 'set-role', ada, 'user', '--yes']),
      run(['users', 'set-role', ada, 'nonsense', '--yes']),
      run(['users', 'show', 'nobody@example.com']),
      run(['users', 'show', 'not an address']),
      run(['audit', 'list', '--type', 'login.faild']),
    ]);
    const expected = [
      ...Array.from({ length: 3 }, () => /^This is the last administrator who can log in\. Make another one first: /),
      /^There is no role "nonsense"\. There are admin, user\.$/m,
      /^There is no user with the address nobody@example\.com\.$/m,
      /^"not an address" is neither the id of a user nor an e-mail address\.$/m,
      /^There are no events of the type "login\.faild"\. There are: user\.registered, /,
    ];
    for (const [index, { code, stdout, stderr }] of outcomes.entries()) {
      assert.match(stderr, expected[index] ?? /^$/);
      assert.deepEqual([code, stdout], [1, '']);
    }
  });

  test('nothing that destroys is done unasked: without a terminal it needs --yes', async () => {
    const list = await run(['keys', 'list', '--json']);
    const { kid } = JSON.parse(list.stdout.split('\n')[0] ?? '');
    const outcomes = await Promise.all([
      run(['users', 'disable', ada]),
      run(['users', 'delete', ada]),
      run(['users', 'set-role', ada, 'user']),
      run(['keys', 'revoke', kid]),
      run(['keys', 'rotate']),
    ]);
    for (const { code, stdout, stderr } of outcomes) {
      assert.deepEqual([code, stdout], [3, '']);
      assert.match(stderr, /^Nothing was done: there is no terminal to ask on\. Add --yes /m);
    }
    assert.equal((await run(['keys', 'list', '--json'])).stdout, list.stdout);
    const unknown = await run(['keys', 'revoke', 'x']);
    assert.deepEqual([unknown.code, unknown.stderr], [1, 'There is no signing key x. See: latchkey keys list\n']);
  });

  test('lists are tables for people and JSON lines for scripts, and hold nothing secret', async () => {
    const [table, lines, one, shown] = await Promise.all([
      run(['users', 'list', '--role', 'admin', '--status', 'active']),
      run(['users', 'list', '--email', ada.slice(0, 8), '--json']),
      run(['audit', 'list', '--limit', '1']),
      run(['users', 'show', ada.toUpperCase(), '--json']),
    ]);
    assert.match(table.stdout, /^ID +ADDRESS +STATUS +ROLES +MADE +LAST LOGIN\n/);
    assert.ok(table.stdout.includes(ada));
    const [listed] = lines.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    assert.deepEqual(listed, JSON.parse(shown.stdout));
    assert.deepEqual([listed.email, listed.has_password], [ada, true]);
    assert.match(one.stdout, /^TIME +TYPE +USER +BY ANOTHER +ADDRESS +DETAILS\n\d{4}-.+Z {2}.+\n$/);
    assert.match(one.stderr, /^These are the newest 1; --limit shows more\.\n$/);
    for (const { stdout } of [table, lines, one, shown]) assert.doesNotMatch(stdout, /lk1:|\$2b\$|password_hash/);
  });

  test('serve is the service, and a signal ends it with 0', async () => {
    const port = await findFreePort();
    const command = startCommand(['serve'], { ...environment(), HOST: '127.0.0.1', PORT: String(port) });
    const isLive = () =>
      fetch(`http://127.0.0.1:${port}/health/live`).then(
        ({ ok }) => ok,
        () => false,
      );
    const giveUpAtMs = performance.now() + 20_000;
    while (!(await isLive())) {
      assert.ok(performance.now() < giveUpAtMs, 'it does not serve');
      await sleep(50);
    }
    command.kill('SIGTERM');
    const { code, stdout } = await command.ended;
    assert.equal(code, 0);
    assert.match(stdout, /Latchkey is ready at /);
  });
});
