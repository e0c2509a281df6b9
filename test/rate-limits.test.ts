import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildApp } from '../src/app.ts';
import { newEmail } from './accounts.ts';
import { assertProblem, type Call, call, type Reply } from './client.ts';
import { describeOnBackends, type System } from './system.ts';

describeOnBackends('limits per client', { RATE_LIMITS: 'on' }, (system, backend) => {
  const isShared = backend === 'postgres+redis';
  let clients = 0;

  /** An address that no other test uses. */
  function newClient(): string {
    clients += 1;
    return `203.0.113.${clients}`;
  }

  const passwordLogin = (): Call => ({
    method: 'POST',
    path: '/auth/login',
    body: { email: newEmail(), password: 'wrong password' },
  });
  const codeLogin = (): Call => ({ method: 'POST', path: '/auth/login/code', body: { verification_token: 'wrong' } });

  async function repeat(times: number, request: () => Promise<Reply>): Promise<Reply[]> {
    const replies: Reply[] = [];
    for (let turn = 0; turn < times; turn += 1) replies.push(await request());
    return replies;
  }

  test('the request after the last one of a limit is refused, and says when to come back', async () => {
    const remoteAddress = newClient();
    const replies = await repeat(20, () => call(system(), { ...passwordLogin(), remoteAddress }));
    assert.deepEqual(new Set(replies.map(({ status }) => status)), new Set([401]));
    assert.deepEqual(
      replies.map(({ headers }) => headers.ratelimit?.match(/^"login";r=(\d+);t=(?:60|5\d)$/)?.[1]),
      replies.map((_, index) => String(19 - index)),
    );
    const refused = await call(system(), { ...passwordLogin(), remoteAddress });
    assertProblem(refused, 'too_many_requests');
    assert.equal(refused.headers['ratelimit-policy'], '"login";q=20;w=60');
    assert.match(refused.headers.ratelimit ?? '', /^"login";r=0;t=\d+$/);
    assert.match(refused.headers['retry-after'] ?? '', /^(?:60|5\d)$/);
  });

  test('one client’s requests leave other clients’ limits and other limits alone', async () => {
    const remoteAddress = newClient();
    await repeat(21, () => call(system(), { ...passwordLogin(), remoteAddress }));
    assert.equal((await call(system(), { ...passwordLogin(), remoteAddress: newClient() })).status, 401);
    const body = { refresh_token: 'wrong' };
    const refresh = await call(system(), { method: 'POST', path: '/auth/refresh', body, remoteAddress });
    assert.equal(refresh.headers.ratelimit?.split(';')[1], 'r=119');
  });

  test('logging in by password and by code share one limit', async () => {
    const remoteAddress = newClient();
    await repeat(12, () => call(system(), { ...passwordLogin(), remoteAddress }));
    const byCode = await repeat(8, () => call(system(), { ...codeLogin(), remoteAddress }));
    assert.equal(byCode[7]?.headers.ratelimit?.split(';')[1], 'r=0');
    assertProblem(await call(system(), { ...codeLogin(), remoteAddress }), 'too_many_requests');
    assertProblem(await call(system(), { ...passwordLogin(), remoteAddress }), 'too_many_requests');
  });

  test('parallel requests are counted one by one', async () => {
    const remoteAddress = newClient();
    const attempts = Array.from({ length: 50 }, () => call(system(), { ...codeLogin(), remoteAddress }));
    const statuses = (await Promise.all(attempts)).map(({ status }) => status);
    assert.equal(statuses.filter((status) => status !== 429).length, 20);
  });

  test('two instances share a limit in Redis', { skip: !isShared }, async () => {
    const remoteAddress = newClient();
    const other: System = { ...system(), app: await buildApp(system().deps) };
    await repeat(15, () => call(system(), { ...codeLogin(), remoteAddress }));
    const elsewhere = await repeat(5, () => call(other, { ...codeLogin(), remoteAddress }));
    assert.equal(elsewhere[4]?.headers.ratelimit?.split(';')[1], 'r=0');
    assertProblem(await call(other, { ...codeLogin(), remoteAddress }), 'too_many_requests');
    await other.app.close();
  });

  test('a Redis that forgets its counts makes no limit looser', { skip: !isShared }, async () => {
    const remoteAddress = newClient();
    const { redis, redisPrefix } = system().deps;
    await repeat(15, () => call(system(), { ...codeLogin(), remoteAddress }));
    assert.equal(
      await redis?.del(`${redisPrefix}limit:login:ip:m:${remoteAddress}`),
      1,
      'it was counted under the prefix',
    );
    const later = await repeat(5, () => call(system(), { ...codeLogin(), remoteAddress }));
    const left = later.map(({ headers }) => headers.ratelimit?.split(';')[1]);
    assert.deepEqual(left, ['r=4', 'r=3', 'r=2', 'r=1', 'r=0']);
    assertProblem(await call(system(), { ...codeLogin(), remoteAddress }), 'too_many_requests');
  });
});
