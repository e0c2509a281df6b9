import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { createRedisStore } from '../../src/ephemeral/redis.ts';
import type { RedisConnection } from '../../src/ephemeral/redis-connection.ts';
import { slotOf } from '../../src/ephemeral/redis-slots.ts';
import type { EphemeralStore } from '../../src/ephemeral/store.ts';
import { minuteMs, newKey, openRedis, sendBudget } from '../ephemeral.ts';
import {
  addMaster,
  addReplica,
  ask,
  type ClusterMember,
  moveSlot,
  type RedisCluster,
  startCluster,
  waitFor,
} from './redis-groups.ts';
import { reasonToSkip } from './servers.ts';

const nowMs = Date.now();

describe('while the slots of a cluster move', { skip: reasonToSkip('redis') }, () => {
  let cluster: RedisCluster;
  let client: RedisConnection;
  let store: EphemeralStore;
  const errors: string[] = [];

  before(async () => {
    cluster = await startCluster();
    client = await openRedis(cluster.url, (error) => errors.push(error.message));
    store = createRedisStore(client, '');
  });
  after(async () => {
    await store?.close();
    await cluster?.remove();
  });

  /** What a code goes through, on a key of this slot, with every answer looked at. */
  async function useOneKey(tag: string): Promise<void> {
    const key = `${tag}:${newKey()}`;
    const entry = { digest: 'right', payload: key, expiresAtMs: nowMs + minuteMs, tries: 3 };
    assert.deepEqual(await store.spend(`${key}:sends`, sendBudget, nowMs), { allowed: true });
    assert.equal((await store.spend(`${key}:sends`, sendBudget, nowMs)).allowed, false);
    await store.put(key, entry, nowMs);
    assert.equal(await store.peek(key, 'right', nowMs), key);
    assert.equal(await store.take(key, ['wrong'], nowMs), undefined);
    assert.equal(await store.take(key, ['wrong'], nowMs), undefined);
    assert.equal(await store.take(key, ['right'], nowMs), key);
    assert.equal(await store.take(key, ['right'], nowMs), undefined);
    await store.refund(`${key}:sends`, nowMs);
    assert.deepEqual(await store.spend(`${key}:sends`, sendBudget, nowMs), { allowed: true });
    await store.remove([`${key}:sends`]);
    assert.deepEqual(await store.spend(`${key}:sends`, sendBudget, nowMs), { allowed: true });
  }

  /** Uses keys of the slot without a pause until the move is over, and counts them. */
  async function useKeysDuring(tag: string, move: () => Promise<void>): Promise<number> {
    let isOver = false;
    let count = 0;
    const users = Array.from({ length: 8 }, async () => {
      while (!isOver) {
        // A busy machine may keep a server from answering in time; that is no matter of the move.
        await useOneKey(tag).catch((error) => {
          if (!/^no answer within/.test(error.cause?.message)) throw error;
        });
        count += 1;
      }
    });
    await Promise.all([
      ...users,
      move().finally(() => {
        isOver = true;
      }),
    ]);
    return count;
  }

  test('nothing is answered wrongly and nothing refused, from one master to another and back', async (t) => {
    const [tag, from] = aTagOf(0);
    const to = cluster.masters[1] as ClusterMember;
    const slot = slotOf(tag);
    const count = await useKeysDuring(tag, async () => {
      for (let turn = 0; turn < 3; turn += 1) {
        await moveSlot(slot, from, to);
        await moveSlot(slot, to, from);
      }
      await moveSlot(slot, from, to);
    });
    t.diagnostic(`measured: ${count} codes were used during seven moves of their slot`);
    assert.ok(count > 20);
    await useOneKey(tag);
    assert.ok((await ask<number>(to.url, ['DBSIZE'])) > 0);
  });

  test('nor when they move to a master that has just been added, and that knows none of the scripts', async () => {
    const [tag, from] = aTagOf(2);
    const added = await addMaster(cluster);
    const count = await useKeysDuring(tag, () => moveSlot(slotOf(tag), from, added));
    assert.ok(count > 0);
    await useOneKey(tag);
    assert.ok((await ask<number>(added.url, ['DBSIZE'])) > 0);
    await store.ping();
    await added.stop();
    await assert.rejects(store.ping(), 'a master that came later counts too');
    await added.start();
    await waitFor(() =>
      store.ping().then(
        () => true,
        () => false,
      ),
    );
  });

  test('and a half-moved slot is served from both ends for as long as that takes', async () => {
    const [tag, from] = aTagOf(0);
    const to = cluster.masters[1] as ClusterMember;
    const key = `${tag}:stays`;
    const entry = { digest: 'right', payload: 'old', expiresAtMs: nowMs + minuteMs };
    await store.put(key, entry, nowMs);
    const [fromId = '', toId = ''] = await Promise.all(
      [from, to].map(({ url }) => ask<string>(url, ['CLUSTER', 'MYID'])),
    );
    await ask(to.url, ['CLUSTER', 'SETSLOT', String(slotOf(tag)), 'IMPORTING', fromId]);
    await ask(from.url, ['CLUSTER', 'SETSLOT', String(slotOf(tag)), 'MIGRATING', toId]);
    await ask(to.url, ['SCRIPT', 'FLUSH']);
    for (let turn = 0; turn < 3; turn += 1) await useOneKey(tag);
    assert.equal(await store.take(key, ['right'], nowMs), 'old');
    await moveSlot(slotOf(tag), from, to);
    await useOneKey(tag);
  });

  test('a replica that takes over from a master that has died is found without a restart', async (t) => {
    const [tag, dying] = aTagOf(1);
    const replica = await addReplica(cluster, dying);
    await useOneKey(tag);
    await dying.stop();
    await assert.rejects(useOneKey(tag));
    await waitFor(async () => /^role:master/m.test(await ask<string>(replica.url, ['INFO', 'replication'])));
    const promotedAtMs = performance.now();
    // Asking for nothing, so that it is not a command that finds it out.
    await waitFor(() =>
      store.ping().then(
        () => true,
        () => false,
      ),
    );
    const tookMs = Math.round(performance.now() - promotedAtMs);
    t.diagnostic(`measured: codes work ${tookMs} ms after the replica of a dead master has taken over its slots`);
    assert.ok(tookMs < 3_000, `it took ${tookMs} ms`);
    await useOneKey(tag);
  });

  /** A hash tag whose slot this master has had from the beginning. */
  function aTagOf(index: number): [tag: string, owner: ClusterMember] {
    for (;;) {
      const tag = `{${randomBytes(8).toString('hex')}}`;
      const owner = cluster.masters[index];
      if (owner !== undefined && Math.floor((slotOf(tag) * 3) / 16_384) === index) return [tag, owner];
    }
  }
});
