import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createRedisStore } from '../../src/ephemeral/redis.ts';
import { connectRedis } from '../../src/ephemeral/redis-connection.ts';
import { slotOf } from '../../src/ephemeral/redis-slots.ts';
import { isUnavailable, minuteMs, newKey } from '../ephemeral.ts';
import { ask, type ClusterMember, startCluster, waitFor } from './redis-groups.ts';
import { reasonToSkip } from './servers.ts';

const nowMs = Date.now();
const entry = { digest: 'right', payload: 'payload', expiresAtMs: nowMs + minuteMs };

describe('a cluster that is not whole at the start', { skip: reasonToSkip('redis') }, () => {
  test('serves what can be served, and heals without a restart when it is whole', async (t) => {
    const cluster = await startCluster();
    const [seed, , late] = cluster.masters as [ClusterMember, ClusterMember, ClusterMember];
    await late.stop();
    // One address is enough to find the others.
    const client = connectRedis(cluster.url.replace(/@.*/, `@127.0.0.1:${seed.port}`), () => {});
    const store = createRedisStore(client, '');
    const put = (key: string) =>
      store.put(key, entry, nowMs).then(
        () => true,
        () => false,
      );
    try {
      await waitFor(() => put(keyOn(0)));
      assert.ok(await put(keyOn(1)));
      await assert.rejects(store.put(keyOn(2), entry, nowMs), isUnavailable);
      await assert.rejects(store.ping(), isUnavailable);
      assert.equal(client.isReady, false);
      await late.start();
      const startedAtMs = performance.now();
      await waitFor(() => put(keyOn(2)));
      const tookMs = Math.round(performance.now() - startedAtMs);
      t.diagnostic(`measured: codes work ${tookMs} ms after the start of a master that was never there before`);
      assert.ok(tookMs < 5_000, `it took ${tookMs} ms`);
      await waitFor(() =>
        store.ping().then(
          () => true,
          () => false,
        ),
      );
      assert.equal(client.isReady, true);
      for (const { url } of cluster.masters) await ask(url, ['CLUSTER', 'DELSLOTS', '0']);
      await waitFor(async () => !client.isReady);
      await assert.rejects(store.ping(), isUnavailable, 'a slot that no master has makes it less than whole');
    } finally {
      const closedAtMs = performance.now();
      for (const master of cluster.masters) master.freeze();
      await store.close();
      assert.ok(performance.now() - closedAtMs < 100, 'it does not wait for servers that stand still');
      await cluster.remove();
    }
  });
});

function keyOn(index: number): string {
  for (;;) {
    const key = newKey();
    if (Math.floor((slotOf(key) * 3) / 16_384) === index) return key;
  }
}
