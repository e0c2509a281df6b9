import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { decodeProtectedHeader } from 'jose';
import { startCommand } from '../../test/copying.ts';
import { type Program, startProgram } from '../../test/program.ts';
import { backends, createScratch } from '../../test/system.ts';

const password = 'a passphrase of the command line';

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
    /** Reads the newest event of each type. */
    const events = async (...types: string[]) => {
      const { stdout } = await run(['audit', 'list', '--json', '--limit', '200']);
      const all = stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line));
      return types.map((type) => all.find((event) => event.type === type));
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

    test('a role that was taken, a user who is disabled or deleted: effective on the next request, and on record', async () => {
      const email = `eve-${randomBytes(4).toString('hex')}@example.com`;
      await run(['create-admin', '--email', email, '--password-stdin'], password);
      const { body } = await logIn(email);
      const token = body.access_token;
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
      assert.equal((await run(['users', 'enable', email])).stdout, `${email} can log in again.\n`);
      assert.equal((await logIn(email)).status, 200);
      assert.match(
        (await run(['create-admin', '--email', email, '--yes'])).stdout,
        /is an administrator from the next request on/,
      );
      assert.equal((await run(['users', 'delete', email, '--yes'])).stdout, `${email} is deleted.\n`);
      assert.equal((await logIn(email)).status, 401);
      const types = ['user.disabled', 'user.enabled', 'user.roles_changed', 'user.deleted'];
      for (const event of await events(...types)) {
        assert.deepEqual([event.user_id, event.actor_id], [body.user.id, null], event.type);
      }
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
      const [ofRevocation, ofRotation] = await events('keys.revoked', 'keys.rotated');
      assert.equal(ofRevocation.details.revoked, kid);
      assert.ok(ofRevocation.details.operator && ofRotation.details.operator);
    });

    test('doctor finds nothing wrong with it', async () => {
      const { code, stdout } = await run(['doctor', '--json']);
      const { healthy, findings } = JSON.parse(stdout);
      assert.deepEqual([code, healthy], [0, true], stdout);
      assert.ok(findings.length > 10);
    });
  });
}
