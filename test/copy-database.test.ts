import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { after, before, describe, type TestContext, test } from 'node:test';
import { createLocalJWKSet, decodeJwt, jwtVerify } from 'jose';
import { readMe, subjectsOfMails } from './accounts.ts';
import { call } from './client.ts';
import { newSecret } from './config.ts';
import {
  browser,
  type Installation,
  type MovedUser,
  makeInstallation,
  readSource,
  readTarget,
  runCopy,
  startCommand,
} from './copying.ts';
import { failStart } from './program.ts';
import { backends, createScratch, type System, startSystem } from './system.ts';
import { howOften } from './thorough.ts';

const userCount = howOften({ brief: 2_000, thorough: 10_000, variable: 'COPY_USERS' });
// Every row is compared in any case, hashes too. For each user to log in: COPY_LOGINS=all with --test-timeout=600000.
const loginStep = process.env.COPY_LOGINS === 'all' ? 1 : 20;
// What does not grow with the number of rows: Node with its collector's leave to wait, and the code.
const memoryLimitMebibytes = 400;

describe(`a move of ${userCount} users from SQLite to PostgreSQL`, {
  skip: !backends.includes('postgres+redis'),
}, () => {
  let installation: Installation;
  let target: Awaited<ReturnType<typeof createScratch>>;
  let targetUrl: string;
  let system: System;
  let sourceBefore: string;
  let filesAfter: string[];
  let outcome: Awaited<ReturnType<typeof runCopy>>;

  before(async () => {
    installation = await makeInstallation(userCount);
    target = await createScratch('postgres+redis');
    targetUrl = target.environment.DATABASE_URL ?? '';
    const { folder, sourcePath } = installation;
    sourceBefore = digestOf(sourcePath);
    outcome = await runCopy({ sourcePath, targetUrl }, '--json');
    assert.equal(outcome.code, 0, outcome.stderr);
    filesAfter = readdirSync(folder);
  });

  after(async () => {
    await system?.close();
    await target?.remove();
    await installation?.remove();
  });

  /** Asks something for each user, a few at a time as clients would, and says for whom the answer was no. */
  async function findRefused(users: readonly MovedUser[], ask: (user: MovedUser) => Promise<boolean>) {
    const refused: string[] = [];
    const waiting = [...users];
    const client = async () => {
      for (let user = waiting.pop(); user !== undefined; user = waiting.pop()) {
        if (!(await ask(user))) refused.push(user.email);
      }
    };
    await Promise.all(Array.from({ length: 20 }, client));
    return refused;
  }

  /** Not through the client of the other tests, which looks at the form of every answer. */
  async function isAccepted(path: string, body: object): Promise<boolean> {
    const headers = { 'content-type': 'application/json', 'user-agent': browser };
    const reply = await system.app.inject({ method: 'POST', url: path, headers, payload: JSON.stringify(body) });
    return reply.statusCode === 200;
  }

  /** Logs in a user in another browser, or the usual one. */
  async function logIn(user: MovedUser | undefined, userAgent = browser) {
    const body = { email: user?.email, password: user?.password };
    const reply = await call(system, {
      method: 'POST',
      path: '/auth/login',
      body,
      headers: { 'user-agent': userAgent },
    });
    assert.equal(reply.status, 200);
    return reply.body;
  }

  test('copies every row of every table but the leases, and counts them', async (t: TestContext) => {
    const [source, copied] = [readSource(installation.sourcePath), await readTarget(targetUrl)];
    const empty = Object.keys(source).filter((name) => source[name]?.length === 0);
    assert.deepEqual(empty, [], 'a table that test/copying.ts leaves empty is not shown to be copied');
    assert.deepEqual(Object.keys(copied).sort(), Object.keys(source).sort());
    for (const [name, rows] of Object.entries(source)) {
      assert.ok(isEqual(copied[name], name === 'leases' ? [] : rows), `${name} differs`);
    }
    const { rows, tables, left_out, dry_run, duration_ms } = JSON.parse(outcome.stdout);
    const counts = Object.entries(source).map(([name, { length }]) => [name, length] as const);
    assert.deepEqual(tables, Object.fromEntries(counts.filter(([name]) => name !== 'leases')));
    assert.deepEqual([left_out, dry_run], [['leases'], false]);
    const { peakMebibytes } = outcome;
    const rate = Math.round((rows / duration_ms) * 1000);
    t.diagnostic(`${rows} rows in ${duration_ms} ms: ${rate} rows a second, at most ${peakMebibytes} MiB of memory`);
    assert.ok(peakMebibytes === undefined || peakMebibytes < memoryLimitMebibytes, `${peakMebibytes} MiB`);
  });

  test('leaves the SQLite file as it was, to the byte, and no other file', () => {
    assert.equal(digestOf(installation.sourcePath), sourceBefore);
    assert.deepEqual(filesAfter, ['latchkey.db']);
  });

  test('the audit trail verifies on both sides, up to the same newest seal', async () => {
    const { folder: cwd, sourcePath, secret: SECRET_KEY } = installation;
    const verify = (DATABASE_URL: string, ...options: string[]) =>
      startCommand(['audit', 'verify', '--json', ...options], { cwd, DATABASE_URL, SECRET_KEY }).ended;
    const source = JSON.parse((await verify(`sqlite:${sourcePath}`)).stdout);
    const { code, stdout, stderr } = await verify(targetUrl, '--expect', source.head);
    assert.equal(code, 0, stderr);
    assert.deepEqual(JSON.parse(stdout), source);
    assert.deepEqual([source.events, source.removed_events], [userCount + 1, 1]);
  });

  test('is refused by a start under another SECRET_KEY, as on SQLite', async () => {
    const environment = { DATA_DIR: installation.folder, DATABASE_URL: targetUrl, SECRET_KEY: newSecret() };
    const { code, output } = await failStart(environment);
    assert.equal(code, 1);
    assert.match(output, /^SECRET_KEY is not the one that this database was made with: .+\n$/);
  });

  test('lets access tokens from before pass, here and with services that verify them offline', async () => {
    const { secret, users, accessToken } = installation;
    system = await startSystem('postgres+redis', { DATABASE_URL: targetUrl, SECRET_KEY: secret });
    assert.equal((await readMe(system, accessToken)).body.email, users[0]?.email);
    const jwks = await call(system, { method: 'GET', path: '/.well-known/jwks.json' });
    assert.equal(jwks.body.keys.length, 3);
    const { payload } = await jwtVerify(accessToken, createLocalJWKSet(jwks.body));
    assert.equal(payload.sub, users[0]?.id);
  });

  test('keeps every session: each refresh token is exchanged', async () => {
    const isRefreshed = (user: MovedUser) => isAccepted('/auth/refresh', { refresh_token: user.refreshToken });
    assert.deepEqual(await findRefused(installation.users, isRefreshed), []);
  });

  test(`lets users log in: ${loginStep === 1 ? 'all' : `every ${loginStep}th`} of them`, async () => {
    const users = installation.users.filter((_, index) => index % loginStep === 0);
    const canLogIn = ({ email, password }: MovedUser) => isAccepted('/auth/login', { email, password });
    assert.deepEqual(await findRefused(users, canLogIn), []);
    const [first, second] = users as [MovedUser, MovedUser];
    assert.equal(await canLogIn({ ...first, password: second.password }), false);
  });

  test('keeps the devices: a login is news only from another one', async () => {
    const user = installation.users[2];
    await logIn(user);
    assert.deepEqual(await subjectsOfMails(system, user?.email ?? ''), []);
    assert.equal(system.deps.mailbox?.sent(), 2, 'the mails that waited, and none about all those logins');
    await logIn(user, 'Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:141.0) Gecko/20100101 Firefox/141.0');
    assert.deepEqual(await subjectsOfMails(system, user?.email ?? ''), ['New login to your account']);
  });

  test('keeps the mail that waited, readable', async () => {
    for (const { email } of installation.users.slice(0, 2)) {
      assert.deepEqual(await subjectsOfMails(system, email), ['Your password was changed']);
    }
  });

  test('keeps roles with their permissions, and who has them', async () => {
    const [first, second] = installation.users;
    const claimsOf = async (user: MovedUser | undefined) =>
      decodeJwt<{ roles: string[]; permissions: string[] }>((await logIn(user)).access_token);
    const { roles, permissions } = await claimsOf(first);
    assert.deepEqual(roles.toSorted(), ['Prüfer', 'admin', 'user']);
    assert.ok(permissions.includes('reports:read') && permissions.includes('users:write'));
    const claims = await claimsOf(second);
    assert.deepEqual([claims.roles, claims.permissions], [['user'], []]);
  });

  test('keeps the events and the profile, as the user’s export shows', async () => {
    const { access_token: token } = await logIn(installation.users[7]);
    const { body } = await call(system, { method: 'GET', path: '/users/me/export', token });
    const { type, user_agent } = body.events.at(-1);
    assert.deepEqual([type, user_agent], ['user.registered', browser]);
    assert.equal(body.user.name, 'Ada 🦉 Łoś');
    assert.deepEqual(body.user.metadata, { index: 7, text: 'Ada 🦉 Łoś', nul: '\0', lone: '\udc00' });
  });
});

function digestOf(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}

/** Not deepEqual, whose report on tens of thousands of rows would take minutes. */
function isEqual(one: readonly string[] | undefined, other: readonly string[]): boolean {
  return one?.length === other.length && one.every((row, index) => row === other[index]);
}
