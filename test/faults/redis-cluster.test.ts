import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { sha256 } from '../../src/crypto/secrets.ts';
import { slotOf } from '../../src/ephemeral/redis-slots.ts';
import { newEmail, proveAddress, readMe, registerUser } from '../accounts.ts';
import { assertProblem, call, type Reply } from '../client.ts';
import { type System, startSystem } from '../system.ts';
import { ask, type ClusterMember, type RedisCluster, startCluster, waitFor } from './redis-groups.ts';
import { reasonToSkip } from './servers.ts';

describe('on a cluster of Redis', { skip: reasonToSkip('redis') }, () => {
  let cluster: RedisCluster;
  let system: System;
  let nextHost = 0;

  before(async () => {
    cluster = await startCluster();
    system = await startSystem('sqlite+memory', { REDIS_URL: cluster.url, RATE_LIMITS: 'on' });
  });
  after(async () => {
    await system?.close();
    await cluster?.remove();
  });

  /** Asks for a code, from a client that is counted on this master too and whose limit is in nobody's way. */
  async function sendCodeOn(index: number): Promise<Reply> {
    const body = { email: emailOn(index), purpose: 'registration' };
    return call(system, { method: 'POST', path: '/auth/send-code', body, remoteAddress: clientOn(index) });
  }

  function clientOn(index: number): string {
    for (;;) {
      nextHost += 1;
      const address = `198.${18 + (nextHost >> 16)}.${(nextHost >> 8) & 255}.${nextHost & 255}`;
      if (isOn(index, limitKey(address))) return address;
    }
  }

  function limitKey(address: string): string {
    return `${system.deps.redisPrefix}limit:send-code:ip:m:${address}`;
  }

  async function readiness(): Promise<unknown[]> {
    const { status, body } = await call(system, { method: 'GET', path: '/health/ready' });
    return [status, body.status, body.components.ephemeral];
  }

  test('people prove their addresses, register and log in, whichever master their codes are on', async () => {
    for (const index of [0, 1, 2]) {
      const user = await registerUser(system, { email: emailOn(index) });
      assert.equal((await readMe(system, user.accessToken)).status, 200);
      // The next mail to the same address.
      system.clock.advanceSeconds(61);
      const verification_token = await proveAddress(system, user.email, 'login');
      const reply = await call(system, { method: 'POST', path: '/auth/login/code', body: { verification_token } });
      assert.equal(reply.status, 200);
    }
    for (const { url } of cluster.masters) assert.ok((await ask<number>(url, ['DBSIZE'])) > 0, 'each holds something');
    assert.deepEqual(await readiness(), [200, 'ready', 'up']);
  });

  test('a client is counted on the master of its address', async () => {
    const remoteAddress = clientOn(1);
    const body = { email: emailOn(0), purpose: 'registration' };
    assert.equal((await call(system, { method: 'POST', path: '/auth/send-code', body, remoteAddress })).status, 202);
    assert.equal(await ask(cluster.masters[1]?.url ?? '', ['EXISTS', limitKey(remoteAddress)]), 1);
  });

  test('two instances share the limits', async () => {
    const other = await startSystem('sqlite+memory', { REDIS_URL: cluster.url, RATE_LIMITS: 'on' });
    try {
      const body = { email: newEmail(), password: 'wrong password' };
      const request = { method: 'POST', path: '/auth/login', body, remoteAddress: '203.0.113.1' } as const;
      const attempt = async (on: System) => (await call(on, request)).status;
      const statuses: number[] = [];
      for (let turn = 0; turn < 10; turn += 1) statuses.push(await attempt(system), await attempt(other));
      assert.deepEqual(statuses, Array(20).fill(401));
      assert.deepEqual([await attempt(system), await attempt(other)], [429, 429]);
    } finally {
      await other.close();
    }
  });

  test('a master that is away costs its own addresses their codes, and is back five seconds after its return', async (t) => {
    const away = cluster.masters[1] as ClusterMember;
    await away.stop();
    const startedAtMs = performance.now();
    assertProblem(await sendCodeOn(1), 'temporarily_unavailable');
    assert.equal((await sendCodeOn(0)).status, 202);
    assert.equal((await sendCodeOn(2)).status, 202);
    const tookMs = performance.now() - startedAtMs;
    assert.ok(tookMs < 1_000, `three answers took ${tookMs} ms, as if something had been waited for`);
    assert.deepEqual(await readiness(), [200, 'degraded', 'down']);
    // Until the others have agreed that it is gone, which changes what they say of the cluster.
    const [first] = cluster.masters;
    await waitFor(async () => /cluster_slots_fail:[1-9]/.test(await ask(first?.url ?? '', ['CLUSTER', 'INFO'])));
    assert.equal((await sendCodeOn(0)).status, 202);
    assertProblem(await sendCodeOn(1), 'temporarily_unavailable');
    assert.deepEqual(await readiness(), [200, 'degraded', 'down']);
    await away.start();
    const returnedAtMs = performance.now();
    await waitFor(async () => (await sendCodeOn(1)).status === 202);
    const codesAfterMs = Math.round(performance.now() - returnedAtMs);
    await waitFor(async () => (await readiness())[1] === 'ready');
    const readyAfterMs = Math.round(performance.now() - returnedAtMs);
    t.diagnostic(`measured: codes work ${codesAfterMs} ms and all is ready ${readyAfterMs} ms after a master is back`);
    assert.ok(readyAfterMs < 5_000, `it took ${readyAfterMs} ms`);
  });

  test('a master that stands still delays its own addresses by seconds at most, and nobody else', async () => {
    const still = cluster.masters[2] as ClusterMember;
    still.freeze();
    try {
      const startedAtMs = performance.now();
      const refused = sendCodeOn(2);
      const [one, other] = await Promise.all([sendCodeOn(0), sendCodeOn(1)]);
      const othersAfterMs = performance.now() - startedAtMs;
      assert.deepEqual([one.status, other.status], [202, 202]);
      assert.ok(othersAfterMs < 900, `the others waited ${othersAfterMs} ms`);
      assertProblem(await refused, 'temporarily_unavailable');
      assert.ok(performance.now() - startedAtMs < 2_500);
      assert.deepEqual(await readiness(), [200, 'degraded', 'down']);
    } finally {
      still.thaw();
    }
    await waitFor(async () => (await readiness())[1] === 'ready');
  });

  /** An address whose keys are on this master. */
  function emailOn(index: number): string {
    for (;;) {
      const email = newEmail();
      if (isOn(index, `{${sha256(email).slice(0, 22)}}`)) return email;
    }
  }
});

function isOn(index: number, key: string): boolean {
  return Math.floor((slotOf(key) * 3) / 16_384) === index;
}
