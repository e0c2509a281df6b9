import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { budgetSpent, newEmail } from './accounts.ts';
import { assertProblem, type Call, call, type Reply } from './client.ts';
import { inParallel } from './races/races.ts';
import type { System } from './system.ts';
import { startTwins, type Twins } from './twins/rig.ts';
import { reasonForNoTwins } from './twins/surroundings.ts';

describe('limits over two instances', { skip: reasonForNoTwins }, () => {
  let twins: Twins;
  let clients = 0;

  before(async () => {
    // The test speaks as the proxy that the instances trust.
    twins = await startTwins({ RATE_LIMITS: 'on', TRUST_PROXY: '127.0.0.1' });
  });
  after(() => twins?.close());

  /** An address that no other test uses. */
  function newClient(): string {
    clients += 1;
    return `203.0.113.${clients}`;
  }

  const logIn = (system: System, remoteAddress: string): Promise<Reply> => {
    const body = { email: newEmail(), password: 'wrong password' };
    return call(system, { method: 'POST', path: '/auth/login', body, remoteAddress });
  };

  // From a new client each time, so that nothing but the budget of the address is used up.
  const askForCode = (system: System, email: string): Promise<Reply> => {
    const request: Call = { method: 'POST', path: '/auth/send-code', body: { email, purpose: 'registration' } };
    return call(system, { ...request, remoteAddress: newClient() });
  };

  const leftOf = (reply: Reply) => Number(reply.headers.ratelimit?.match(/^"login";r=(\d+);/)?.[1]);

  test('a client has one limit at both, which counts down across them and refuses at both', async () => {
    const client = newClient();
    const left: number[] = [];
    for (let attempt = 0; attempt < 20; attempt += 1) {
      const reply = await logIn(twins.system, client);
      assert.equal(reply.status, 401);
      left.push(leftOf(reply));
    }
    assert.deepEqual(
      left,
      Array.from({ length: 20 }, (_, index) => 19 - index),
    );
    for (const instance of [twins.one, twins.other]) {
      const refused = await logIn(instance, client);
      assertProblem(refused, 'too_many_requests');
      assert.equal(leftOf(refused), 0);
    }
    assert.equal((await logIn(twins.system, newClient())).status, 401, 'another client has a limit of its own');
  });

  test('parallel requests to both are counted one by one', async () => {
    const client = newClient();
    const statuses = (await inParallel(50, () => logIn(twins.system, client))).map(({ status }) => status);
    assert.equal(statuses.filter((status) => status === 401).length, 20);
    assert.equal(statuses.filter((status) => status === 429).length, 30);
  });

  test('an address has one budget of mails at both', async () => {
    const email = newEmail();
    const statuses: number[] = [];
    for (let minute = 0; minute < 7; minute += 1) {
      statuses.push((await askForCode(minute % 2 === 0 ? twins.one : twins.other, email)).status);
      const again = await askForCode(minute % 2 === 0 ? twins.other : twins.one, email);
      assertProblem(again, 'too_many_requests', budgetSpent);
      // A delivery that takes two minutes is taken for dead and begun again.
      await twins.system.deps.outbox.deliverDue();
      twins.clock.advanceSeconds(60);
    }
    assert.deepEqual(statuses, [202, 202, 202, 202, 202, 429, 429]);
    assert.equal(twins.mail.mailbox.list().filter(({ to }) => to === email).length, 5);
  });

  test('an instance that is killed and started again gives nobody a fresh allowance', async () => {
    const [half, whole, email] = [newClient(), newClient(), newEmail()];
    for (let attempt = 0; attempt < 10; attempt += 1) await logIn(twins.system, half);
    for (let attempt = 0; attempt < 20; attempt += 1) await logIn(twins.system, whole);
    assert.equal((await askForCode(twins.other, email)).status, 202);

    twins.balancer.remove(twins.other.program.origin);
    assert.equal((await twins.other.program.stop('SIGKILL')).signal, 'SIGKILL');
    twins.other = await twins.start();
    twins.balancer.add(twins.other.program.origin);

    assertProblem(await logIn(twins.other, whole), 'too_many_requests');
    assertProblem(await logIn(twins.one, whole), 'too_many_requests');
    assertProblem(await askForCode(twins.other, email), 'too_many_requests', budgetSpent);
    const left: number[] = [];
    for (let attempt = 0; attempt < 10; attempt += 1) left.push(leftOf(await logIn(twins.system, half)));
    assert.deepEqual(left, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
    for (const instance of [twins.one, twins.other]) {
      assertProblem(await logIn(instance, half), 'too_many_requests');
    }
  });
});
