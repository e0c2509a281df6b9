import { addressText, type RedisAddress, type RedisTarget } from '../redis-url.ts';
import { openLink, type RedisClient } from './redis-link.ts';
import { type NodeSettings, openNode, type RedisNode } from './redis-node.ts';
import type { Topology } from './redis-topology.ts';

const askEveryMs = 500;
// A sentinel that stands still must not be believed for longer than the others need to agree on a new master.
const voteTtlMs = 3_000;

type Vote = { named: RedisAddress; heardAtMs: number };

/**
 * Follows the master that the sentinels name. Each is asked twice a second, so a failover is learned of from the
 * first that knows of it, also when the old master is still there. What most of them name is used, once it says
 * itself that it is a master.
 */
export function openSentinelTopology(target: RedisTarget & { mode: 'sentinel' }, settings: NodeSettings): Topology {
  const votes = new Map<RedisAddress, Vote>();
  const nodes = new Map<string, RedisNode>();
  let candidates: readonly RedisNode[] = [];
  let isClosed = false;

  async function hearVote(sentinel: RedisAddress, client: RedisClient): Promise<string | undefined> {
    const answer = await client.sendCommand(['SENTINEL', 'GET-MASTER-ADDR-BY-NAME', target.masterName]);
    if (!Array.isArray(answer)) return `it knows no master named ${target.masterName}`;
    votes.set(sentinel, { named: { host: String(answer[0]), port: Number(answer[1]) }, heardAtMs: performance.now() });
    if (!isClosed) follow();
    return undefined;
  }

  const sentinels = target.sentinels.map((address) =>
    openLink({
      address,
      isEncrypted: target.isEncrypted,
      credentials: target.sentinelCredentials,
      respVersion: 2,
      title: 'the sentinel',
      beat: (client) => hearVote(address, client),
      beatEveryMs: askEveryMs,
      onError: settings.onError,
    }),
  );

  /** Connects to what is named and to nothing else; during a failover that is two addresses for a moment. */
  function follow(): void {
    const named = rankByVotes([...votes.values()]);
    const texts = named.map(addressText);
    for (const [text, node] of nodes) {
      if (texts.includes(text)) continue;
      nodes.delete(text);
      node.close();
    }
    candidates = named.map((address) => {
      const node = nodes.get(addressText(address)) ?? openNode(address, { ...settings, database: target.database });
      nodes.set(addressText(address), node);
      return node;
    });
  }

  function getMaster(): RedisNode {
    const master = candidates.find((node) => node.isReady && node.isMaster);
    if (master === undefined) throw new Error('the sentinels name no master that can be reached');
    return master;
  }

  return {
    get isReady() {
      return candidates.some((node) => node.isReady && node.isMaster);
    },
    run: async (_key, _giveUpAtMs, send) => send(getMaster(), false),
    async ping() {
      await getMaster().client.ping();
    },
    close() {
      isClosed = true;
      for (const link of [...sentinels, ...nodes.values()]) link.close();
    },
  };
}

/** The addresses that the sentinels have named of late, the one that most of them name first. */
function rankByVotes(votes: readonly Vote[]): RedisAddress[] {
  const oldestMs = performance.now() - voteTtlMs;
  const fresh = votes.filter(({ heardAtMs }) => heardAtMs >= oldestMs);
  const groups = Map.groupBy(fresh, ({ named }) => addressText(named));
  return [...groups.values()].sort((a, b) => b.length - a.length).flatMap(([vote]) => vote?.named ?? []);
}
