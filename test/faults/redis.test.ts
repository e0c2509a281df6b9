import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  budgetSpent,
  logIn,
  newEmail,
  openSession,
  proveAddress,
  readMe,
  refresh,
  registerUser,
  sendCode,
  type TestUser,
} from '../accounts.ts';
import { assertProblem, call, type Reply } from '../client.ts';
import { type System, startSystem } from '../system.ts';
import { ask } from './redis-groups.ts';
import { type PrivateServer, reasonToSkip, startRedis } from './servers.ts';

const answerLimitMs = 2_500;

describe('when Redis fails', { skip: reasonToSkip('redis') }, () => {
  let server: PrivateServer;
  let system: System;
  let user: TestUser;

  before(async () => {
    server = await startRedis();
    // With limits, because they are counted in Redis too.
    system = await startSystem('sqlite+memory', { REDIS_URL: server.url, RATE_LIMITS: 'on' });
    user = await registerUser(system);
  });

  after(async () => {
    await system?.close();
    await server?.remove();
  });

  test('a Redis that stands still delays what does not need it by seconds at most, and codes get a 503', async () => {
    const token = await proveAddress(system, newEmail(), 'registration');
    const email = newEmail();
    server.freeze();
    const { refreshToken, accessToken } = await inTime(() => logInAgain(user));
    assert.equal((await inTime(() => refresh(system, refreshToken))).status, 200);
    assert.equal((await inTime(() => readMe(system, accessToken))).status, 200);
    const logOut = () => call(system, { method: 'POST', path: '/auth/logout', token: accessToken });
    assert.equal((await inTime(logOut)).status, 204);
    assertProblem(await inTime(() => sendCode(system, email, 'registration')), 'temporarily_unavailable');
    assertProblem(await inTime(() => verify(email, 'AAAAAA')), 'temporarily_unavailable');
    const body = { verification_token: token, password: user.password };
    const register = () => call(system, { method: 'POST', path: '/auth/register', body });
    assertProblem(await inTime(register), 'temporarily_unavailable');
    const ready = await inTime(() => call(system, { method: 'GET', path: '/health/ready' }));
    assert.deepEqual([ready.status, ready.body.status], [200, 'degraded']);
    server.thaw();
    await codesWorkAgain();
    // The refused request arrived at Redis after all, too late to be carried out.
    assert.equal((await sendCode(system, email, 'registration')).status, 202);
    assertProblem(await sendCode(system, email, 'registration'), 'too_many_requests', budgetSpent);
  });

  test('what a frozen Redis reads late uses up nothing, also where it has forgotten the scripts', async () => {
    const email = newEmail();
    await ask(server.url, ['SCRIPT', 'FLUSH']);
    server.freeze();
    assertProblem(await sendCode(system, email, 'registration'), 'temporarily_unavailable');
    server.thaw();
    await codesWorkAgain();
    assert.equal((await sendCode(system, email, 'registration')).status, 202);
  });

  test('without Redis logins go on and codes get a 503; they work again within five seconds of its start', async (t) => {
    await server.stop();
    // Long enough that the pauses between attempts to reconnect have grown to their longest.
    const stoppedAtMs = performance.now();
    const { refreshToken, accessToken } = await inTime(() => logInAgain(user));
    assert.equal((await refresh(system, refreshToken)).status, 200);
    assert.equal((await readMe(system, accessToken)).status, 200);
    assertProblem(await sendCode(system, newEmail(), 'registration'), 'temporarily_unavailable');
    await sleep(4_000 - (performance.now() - stoppedAtMs));
    await server.start();
    const startedAtMs = performance.now();
    await codesWorkAgain();
    const tookMs = performance.now() - startedAtMs;
    t.diagnostic(`measured: codes work ${Math.round(tookMs)} ms after Redis answers again`);
    assert.ok(tookMs < 5_000, `codes took ${tookMs} ms`);
  });

  async function logInAgain({ email, password }: TestUser): Promise<TestUser> {
    return openSession(system, { ...user, email, password });
  }

  function verify(email: string, code: string): Promise<Reply> {
    return call(system, { method: 'POST', path: '/auth/verify-code', body: { email, purpose: 'login', code } });
  }

  // From an address of its own, so that waiting does not use up anybody's limit.
  async function codesWorkAgain(): Promise<void> {
    const giveUpAtMs = performance.now() + 6_000;
    for (let host = 1; ; host += 1) {
      const body = { email: newEmail(), purpose: 'registration' };
      const remoteAddress = `198.51.100.${host % 250}`;
      const reply = await call(system, { method: 'POST', path: '/auth/send-code', body, remoteAddress });
      if (reply.status === 202) return;
      assertProblem(reply, 'temporarily_unavailable');
      assert.ok(performance.now() < giveUpAtMs, 'codes do not work again');
      await sleep(50);
    }
  }
});

describe('the limits when Redis fails', { skip: reasonToSkip('redis') }, () => {
  test('they stay what they are while it is flushed, stands still, is away and comes back empty', async () => {
    const server = await startRedis();
    const system = await startSystem('sqlite+memory', { REDIS_URL: server.url, RATE_LIMITS: 'on' });
    try {
      const attempt = async () => (await logIn(system, newEmail(), 'wrong password')).status;
      const statuses: number[] = [];
      for (let turn = 0; turn < 8; turn += 1) statuses.push(await attempt());
      await ask(server.url, ['FLUSHALL']);
      for (let turn = 0; turn < 4; turn += 1) statuses.push(await attempt());
      server.freeze();
      statuses.push(...(await Promise.all([attempt(), attempt(), attempt(), attempt()])));
      await server.stop();
      for (let turn = 0; turn < 4; turn += 1) statuses.push(await attempt());
      assert.deepEqual(statuses, Array(20).fill(401));
      assert.equal(await attempt(), 429);
      await server.start();
      assert.equal(await attempt(), 429);
    } finally {
      await system.close();
      await server.remove();
    }
  });
});

async function inTime<T>(request: () => Promise<T>): Promise<T> {
  const startedAtMs = performance.now();
  const reply = await request();
  const tookMs = performance.now() - startedAtMs;
  assert.ok(tookMs < answerLimitMs, `the answer took ${tookMs} ms`);
  return reply;
}
