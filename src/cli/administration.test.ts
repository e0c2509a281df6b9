import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { decodeProtectedHeader } from 'jose';
import { startCommand } from '../../test/copying.ts';
import { type Program, startProgram } from '../../test/program.ts';
import { backends, createScratch } from '../../test/system.ts';

const password = 'a passphrase of the command line';
const idForm = /^[0-9a-f]{8}-[0-9a-f-]{27}$/;

for (const backend of backends) {
  describe(`administration from the command line while the service runs (${backend})`, () => {
    let scratch: Awaited<ReturnType<typeof createScratch>>;
    let program: Program;
    let environment: Record<string, string> & { DATA_DIR: string };
    const ada = `ada-${randomBytes(4).toString('hex')}@example.com`;

    const run = (args: string[], input?: string) =>
      startCommand(args, { cwd: environment.DATA_DIR, ...environment }, input).ended;

    async function send(method: string, path: string, { token, body }: { token?: string; body?: unknown } = {}) {
      const reply = await fetch(`${program.origin}${path}`, {
        method,
        headers: {
          ...(token !== undefined && { authorization: `Bearer ${token}` }),
          ...(body !== undefined && { 'content-type': 'application/json' }),
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      });
      const text = await reply.text();
      return { status: reply.status, body: text === '' ? undefined : JSON.parse(text) };
    }
    const logIn = (email: string) => send('POST', '/auth/login', { body: { email, password } });
    const events = async (type: string) => {
      const { stdout } = await run(['audit', 'list', '--type', type, '--json']);
      return stdout
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line));
    };

    before(async () => {
      scratch = await createScratch(backend);
      const folder = scratch.environment.DATA_DIR ?? '';
      const secret = randomBytes(48).toString('base64');
      environment = { ...scratch.environment, DATA_DIR: folder, SECRET_KEY: secret, BCRYPT_COST: '4' };
      // Before the service was ever started: the command makes the first tables.
      const first = await run(
        ['create-admin', '--email', ada.toUpperCase(), '--name', 'Ada', '--password-stdin'],
        `${password}\n`,
      );
      assert.equal(first.code, 0, first.stderr);
      program = await startProgram(environment);
    });
    after(async () => {
      await program?.stop('SIGTERM');
      await scratch?.remove();
    });

    test('create-admin makes an administrator who can log in and administer, and is on record', async () => {
      const { status, body } = await logIn(ada);
      assert.equal(status, 200);
      assert.deepEqual([body.user.roles.toSorted(), body.user.name], [['admin', 'user'], 'Ada']);
      assert.equal((await send('GET', '/users?limit=1', { token: body.access_token })).status, 200);
      const [event] = await events('user.created');
      assert.deepEqual([event.user_id, event.actor_id, event.details.by], [body.user.id, null, 'operator']);
    });

    test('create-admin explains a rejected password, invites without one, and leaves an existing password alone', async () => {
      const bob = `bob-${randomBytes(4).toString('hex')}@example.com`;
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
      // The service delivers what the command wrote.
      assert.equal((await run(['users', 'delete', id, '--yes'])).code, 0);
    });

    test('disabling refuses every token on the next request, and nothing that destroys is done unasked', async () => {
      const email = `eve-${randomBytes(4).toString('hex')}@example.com`;
      await run(['create-admin', '--email', email, '--password-stdin'], password);
      const { body } = await logIn(email);
      const token = body.access_token;
      assert.equal((await send('GET', '/users/me', { token })).status, 200);
      const unasked = await Promise.all([
        run(['users', 'disable', email]),
        run(['users', 'delete', email]),
        run(['users', 'set-role', email, 'user']),
      ]);
      for (const { code, stderr } of unasked) {
        assert.equal(code, 3);
        assert.match(stderr, /^Nothing was done: there is no terminal to ask on\. Add --yes /m);
      }
      assert.equal((await send('GET', '/users/me', { token })).status, 200);
      assert.equal((await run(['users', 'set-role', email, 'user', '--yes'])).stdout, `${email} has user.\n`);
      assert.equal(
        (await send('GET', '/users?limit=1', { token })).status,
        403,
        'the role is gone on the next request',
      );
      assert.equal((await run(['users', 'disable', email, '--yes'])).stdout, `${email} is disabled.\n`);
      assert.equal((await send('GET', '/users/me', { token })).status, 401);
      assert.equal((await logIn(email)).status, 401);
      const promoted = await run(['create-admin', '--email', email, '--yes']);
      assert.deepEqual([promoted.code, promoted.stdout], [1, '']);
      assert.equal((await run(['users', 'enable', email])).stdout, `${email} can log in again.\n`);
      assert.equal((await logIn(email)).status, 200);
      assert.equal((await run(['create-admin', '--email', email])).code, 3, 'it asks before it promotes');
      assert.match(
        (await run(['create-admin', '--email', email, '--yes'])).stdout,
        /is an administrator from the next request on/,
      );
      assert.equal((await run(['users', 'delete', email, '--yes'])).stdout, `${email} is deleted.\n`);
      assert.equal((await logIn(email)).status, 401);
      const types = ['user.disabled', 'user.enabled', 'user.roles_changed', 'user.deleted'];
      for (const type of types) {
        const [event] = await events(type);
        assert.deepEqual([event.user_id, event.actor_id], [body.user.id, null], type);
      }
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
      assert.equal((await logIn(ada)).status, 200);
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

    test('a revoked key is refused by the running service within a second, and rotation is on record', async () => {
      const { body } = await logIn(ada);
      const token = body.access_token;
      assert.equal((await send('GET', '/users/me', { token })).status, 200);
      const { kid = '' } = decodeProtectedHeader(token);
      const list = await run(['keys', 'list', '--json']);
      const keys = list.stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line));
      assert.equal(keys.find((key) => key.state === 'active').kid, kid);
      assert.doesNotMatch(list.stdout, /"d":|v1\./, 'no private part');
      const [unknown, unasked, tooEarly] = await Promise.all([
        run(['keys', 'revoke', 'x']),
        run(['keys', 'revoke', kid]),
        run(['keys', 'rotate']),
      ]);
      assert.equal(unknown.stderr, 'There is no signing key x. See: latchkey keys list\n');
      assert.match(tooEarly.stderr, /^The next key was made \d+ seconds ago\. /);
      assert.deepEqual([unknown.code, unasked.code, tooEarly.code], [1, 3, 3]);
      assert.equal((await send('GET', '/users/me', { token })).status, 200);
      const revoked = await run(['keys', 'revoke', kid, '--yes', '--json']);
      assert.equal(revoked.code, 0, revoked.stderr);
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      assert.equal((await send('GET', '/users/me', { token })).status, 401);
      const refreshed = await send('POST', '/auth/refresh', { body: { refresh_token: body.refresh_token } });
      assert.equal(decodeProtectedHeader(refreshed.body.access_token).kid, JSON.parse(revoked.stdout).activated);
      const jwks = await send('GET', '/.well-known/jwks.json');
      assert.ok(!jwks.body.keys.some((key: { kid: string }) => key.kid === kid));
      const rotated = await run(['keys', 'rotate', '--yes', '--json']);
      assert.equal(JSON.parse(rotated.stdout).retired, JSON.parse(revoked.stdout).activated);
      const [[ofRevocation], [ofRotation]] = [await events('keys.revoked'), await events('keys.rotated')];
      assert.equal(ofRevocation.details.revoked, kid);
      assert.ok(ofRevocation.details.operator && ofRotation.details.operator);
    });

    test('serve is the service, and doctor finds nothing wrong with it', async () => {
      const { code, stdout } = await run(['doctor', '--json']);
      const { healthy, findings } = JSON.parse(stdout);
      assert.deepEqual([code, healthy], [0, true], stdout);
      assert.ok(findings.length > 10);
    });
  });
}
