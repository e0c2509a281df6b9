import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { createLocalJWKSet, jwtVerify } from 'jose';
import { buildApp } from '../src/app.ts';
import { loadConfig } from '../src/config.ts';
import { createDeps } from '../src/deps.ts';
import { createLog } from '../src/log.ts';
import { assertIntact, sealAll } from './audit.ts';
import { call, type Reply } from './client.ts';
import { createTestClock } from './clock.ts';
import { startCommand } from './copying.ts';
import { startMailServer } from './mail-server.ts';
import { send, startProgram } from './program.ts';
import { type Backend, backends, type System, waitUntilReady } from './system.ts';
import { earlierVersions, readFacts, restoreDatabase, type UpgradeFacts } from './upgrade-fixtures.ts';

// An access token of the earlier version still lives then, and so does the mail that waited.
const minuteMs = 60_000;

type Restored = Awaited<ReturnType<typeof restoreDatabase>>;

for (const version of earlierVersions) {
  for (const backend of backends) {
    describe(`a database of version ${version} (${backend})`, () => {
      const facts = readFacts(version, backend);

      test('keeps everybody logged in, verifies their tokens, and delivers the mail that waited', async (t) => {
        const mail = await startMailServer();
        t.after(mail.stop);
        const system = await upgrade(t, backend, facts, await restoreDatabase(version, backend), mail.url);
        const [ada, grace] = facts.users;
        assert.ok(ada && grace);

        const me = await call(system, { method: 'GET', path: '/users/me', token: ada.accessToken });
        assert.deepEqual([me.status, me.body.id, me.body.email, me.body.name], [200, ada.id, ada.email, 'ada']);
        const jwks = await call(system, { method: 'GET', path: '/.well-known/jwks.json' });
        const currentDate = new Date(system.clock.now());
        const options = { currentDate, issuer: facts.publicUrl, audience: facts.publicUrl, typ: 'at+jwt' };
        const verified = await jwtVerify(ada.accessToken, createLocalJWKSet(jwks.body), options);
        assert.equal(verified.payload.sub, ada.id);

        for (const user of facts.users.filter(({ id }) => id !== facts.disabledId)) {
          const refreshed = await refresh(system, user.refreshToken);
          assert.equal(refreshed.status, 200, user.email);
          const { body } = await call(system, { method: 'GET', path: '/users/me', token: refreshed.body.access_token });
          assert.equal(body.id, user.id);
        }

        // What the earlier version sealed: a code, and notices where it had them.
        const waiting = await system.deps.db.selectFrom('outbox').select('id').execute();
        assert.ok(waiting.length >= 1);
        await system.deps.outbox.deliverDue();
        assert.deepEqual(await system.deps.db.selectFrom('outbox').select('id').execute(), []);
        assert.ok(mail.received.some(({ to }) => to.includes('late@example.com')));
      });

      test('lets in those with a password and a role, and nobody else', async (t) => {
        const system = await upgrade(t, backend, facts, await restoreDatabase(version, backend));
        const logIn = (email: string, password: string) =>
          call(system, { method: 'POST', path: '/auth/login', body: { email, password } });
        for (const { id, email, password } of facts.users) {
          const login = await logIn(email, password);
          if (id === facts.disabledId) {
            assertRefused(login, 'invalid_credentials');
            continue;
          }
          assert.equal(login.status, 200, email);
          const users = await call(system, { method: 'GET', path: '/users', token: login.body.access_token });
          assert.equal(users.status, id === facts.administratorId ? 200 : 403, email);
          assertRefused(await logIn(email, `${password}!`), 'invalid_credentials');
        }
        assertRefused(await refresh(system, facts.endedRefreshToken), 'invalid_refresh_token');
        // Replaced more than the grace ago: theft, as it would have been before.
        assertRefused(await refresh(system, facts.spentRefreshToken), 'refresh_token_reused');
      });

      test('has its old events sealed, and the chain is intact', async (t) => {
        const system = await upgrade(t, backend, facts, await restoreDatabase(version, backend));
        const count = system.deps.db.selectFrom('audit_events').select(({ fn }) => fn.countAll<string>().as('count'));
        const events = Number((await count.executeTakeFirstOrThrow()).count);
        assert.ok(events >= 5, `${events} events`);
        await sealAll(system.deps);
        const report = await assertIntact(system.deps);
        assert.deepEqual([report.events, report.unsealed.count], [events, 0]);
      });

      test('is taken over by the program itself, and doctor and audit verify find nothing wrong with it', async (t) => {
        const restored = await restoreDatabase(version, backend);
        const environment = {
          ...restored.environment,
          DATA_DIR: restored.environment['DATA_DIR'] ?? '',
          SECRET_KEY: facts.secretKey,
          PUBLIC_URL: facts.publicUrl,
        };
        const program = await startProgram(environment);
        t.after(() => program.stop('SIGKILL').finally(restored.remove));
        for (const { id, email, password } of facts.users) {
          const login = await send(program, { method: 'POST', path: '/auth/login', body: { email, password } });
          assert.equal(login.status, id === facts.disabledId ? 401 : 200, email);
        }
        assert.equal((await program.stop('SIGTERM')).code, 0);

        const command = { ...environment, cwd: environment.DATA_DIR, NODE_ENV: 'development' };
        const doctor = await startCommand(['doctor', '--json'], command).ended;
        const findings: { check: string; state: string }[] = JSON.parse(doctor.stdout).findings;
        const problems = findings.filter(({ state }) => state === 'problem').map(({ check }) => check);
        // A test runs in development, where PUBLIC_URL should be this machine.
        assert.deepEqual(problems, ['mode'], doctor.stdout);
        for (const check of ['migrations', 'secret', 'signing_keys'])
          assert.equal(findings.find((finding) => finding.check === check)?.state, 'ok', check);
        const verified = await startCommand(['audit', 'verify'], command).ended;
        assert.equal(verified.code, 0, verified.stdout + verified.stderr);
      });
    });
  }
}

function assertRefused({ status, body }: Reply, code: string): void {
  assert.deepEqual([status, body.code], [401, code]);
}

function refresh(system: System, refreshToken: string) {
  return call(system, { method: 'POST', path: '/auth/refresh', body: { refresh_token: refreshToken } });
}

/** Starts today's application on the database, a minute after the earlier version was stopped. */
async function upgrade(
  t: TestContext,
  backend: Backend,
  facts: UpgradeFacts,
  restored: Restored,
  smtpUrl?: string,
): Promise<System> {
  const clock = createTestClock();
  clock.advanceSeconds((facts.madeAtMs + minuteMs - clock.now()) / 1000);
  const config = loadConfig({
    NODE_ENV: 'test',
    PUBLIC_URL: facts.publicUrl,
    SECRET_KEY: facts.secretKey,
    BCRYPT_COST: '4',
    RATE_LIMITS: 'off',
    LOG_LEVEL: 'silent',
    ...(smtpUrl === undefined ? {} : { SMTP_URL: smtpUrl }),
    ...restored.environment,
  });
  const log = await createLog('silent', false);
  const deps = await createDeps(config, { log, clock, redisPrefix: restored.redisPrefix });
  if (backend === 'postgres+redis') await waitUntilReady(deps);
  const app = await buildApp(deps);
  const close = async () => {
    await app.close();
    await deps.close();
  };
  t.after(() => close().finally(restored.remove));
  return { app, deps, clock, close };
}
