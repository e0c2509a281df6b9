import { ErrorReply } from '@redis/client';
import { addressText, type RedisAddress, type RedisTarget } from '../redis-url.ts';
import { openLink, type RedisClient } from './redis-link.ts';
import { type NodeSettings, openNode, type RedisNode } from './redis-node.ts';
import type { Topology } from './redis-topology.ts';

const askEveryMs = 500;
// A sentinel that stands still must not be believed for longer than the others need to agree on a new master.
const voteTtlMs = 3_000;

/** Whom a sentinel names, and of which failover it knows. */
type Vote = { named: RedisAddress; configEpoch: number; heardAtMs: number };

/**
 * Follows the master that the sentinels name. Each is asked twice a second, so a failover is learned of from the
 * first that knows of it, also when the old master is still there. What is named is used once it says itself that it
 * is a master.
 */
export function openSentinelTopology(target: RedisTarget & { mode: 'sentinel' }, settings: NodeSettings): Topology {
  const votes = new Map<RedisAddress, Vote>();
  const nodes = new Map<string, RedisNode>();
  let candidates: readonly RedisNode[] = [];
  let isClosed = false;

  async function hearVote(sentinel: RedisAddress, client: RedisClient): Promise<string | undefined> {
    // Both are written in this turn, so no failover comes between their answers.
    const [named, configEpoch] = await Promise.all([
      client.sendCommand(['SENTINEL', 'GET-MASTER-ADDR-BY-NAME', target.masterName]),
      readConfigEpoch(client, target.masterName),
    ]);
    if (!Array.isArray(named)) return `it knows no master named ${target.masterName}`;
    const address = { host: String(named[0]), port: Number(named[1]) };
    votes.set(sentinel, { named: address, configEpoch, heardAtMs: performance.now() });
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

  /** Connects to what counts and to nothing else: an older master may yet be there and take what it is sent. */
  function follow(): void {
    const named = chooseMasters([...votes.values()]);
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

/**
 * Whom to use of those that were named of late, the best first. A failover is one that most sentinels have agreed on,
 * and the one that carried it out tells the others, which takes up to two seconds; meanwhile most of them still name
 * the old master, and it loses what it is sent. So only who is named as of the newest failover counts, which is one
 * address, but for sentinels that tell no failovers: there the one that most of them name comes first.
 */
function chooseMasters(votes: readonly Vote[]): RedisAddress[] {
  const oldestMs = performance.now() - voteTtlMs;
  const fresh = votes.filter(({ heardAtMs }) => heardAtMs >= oldestMs);
  const newestEpoch = Math.max(...fresh.map(({ configEpoch }) => configEpoch));
  const newest = fresh.filter(({ configEpoch }) => configEpoch === newestEpoch);
  const groups = Map.groupBy(newest, ({ named }) => addressText(named));
  return [...groups.values()].sort((a, b) => b.length - a.length).flatMap(([vote]) => vote?.named ?? []);
}

/** Reads which failover a sentinel knows of; it grows with each. Zero where users may not ask for it. */
async function readConfigEpoch(client: RedisClient, masterName: string): Promise<number> {
  try {
    const fields = await client.sendCommand<string[]>(['SENTINEL', 'MASTER', masterName]);
    return Number(fields[fields.indexOf('config-epoch') + 1]) || 0;
  } catch (error) {
    // Of a master that it does not know as well.
    if (error instanceof ErrorReply) return 0;
    throw error;
  }
}
