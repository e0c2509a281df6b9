import { setTimeout as sleep } from 'node:timers/promises';
import { ErrorReply } from '@redis/client';
import type { RedisAddress, RedisTarget } from '../redis-url.ts';
import { openClusterMap } from './redis-cluster-map.ts';
import { isWorking } from './redis-cluster-view.ts';
import type { NodeSettings, RedisNode } from './redis-node.ts';
import { slotOf } from './redis-slots.ts';
import type { Send, Topology } from './redis-topology.ts';

const maxRedirects = 5;
const newcomerLimitMs = 500;
const pollEveryMs = 10;

/** What a server answers that does not serve the key: who does, for good or while the key is on its way there. */
type Redirect = { to: RedisAddress; isAsking: boolean };

/** Sends each command to the master that its key belongs to: one that is away costs the keys of its slots, and no others. */
export function openClusterTopology(target: RedisTarget & { mode: 'cluster' }, settings: NodeSettings): Topology {
  const map = openClusterMap(target, settings);

  async function run<T>(key: string, giveUpAtMs: number, send: Send<T>): Promise<T> {
    const slot = slotOf(key);
    let node = map.ownerOf(slot);
    let isAsking = false;
    for (let redirects = 0; ; redirects += 1) {
      if (node !== undefined && !node.isReady) await waitForNewcomer(node, giveUpAtMs);
      if (!node?.isReady) throw new Error('the master of the key cannot be reached');
      try {
        return await send(node, isAsking);
      } catch (error) {
        const redirect = error instanceof ErrorReply ? readRedirect(error.message, node.address) : undefined;
        if (redirect === undefined) map.suspectChange();
        if (redirect === undefined || redirects >= maxRedirects || performance.now() >= giveUpAtMs) throw error;
        isAsking = redirect.isAsking;
        node = isAsking ? map.meet(redirect.to) : map.reassign(slot, redirect.to);
      }
    }
  }

  /** A server that has just been met is given a moment to be connected to; one that is away is not waited for. */
  async function waitForNewcomer(node: RedisNode, giveUpAtMs: number): Promise<void> {
    const untilMs = Math.min(giveUpAtMs, map.openedAtMs(node) + newcomerLimitMs);
    while (!node.isReady && performance.now() < untilMs) await sleep(pollEveryMs);
  }

  return {
    get isReady() {
      return map.isWhole();
    },
    run,
    async ping() {
      if (!map.isWhole()) throw new Error('there are slots whose master cannot be reached');
      await Promise.all(map.listMasters().map(pingMaster));
    },
    close: () => map.close(),
  };
}

async function pingMaster({ client }: RedisNode): Promise<void> {
  const [, info] = await Promise.all([client.ping(), client.clusterInfo()]);
  if (!isWorking(info)) throw new Error('a master finds the cluster unable to serve');
}

/** Reads `MOVED 3999 host:port` and `ASK 3999 host:port`; without a host it is that of the server that answers. */
function readRedirect(message: string, from: RedisAddress): Redirect | undefined {
  const [, kind, host, port] = /^(MOVED|ASK) \d+ (\S*):(\d{1,5})$/.exec(message) ?? [];
  if (kind === undefined || host === undefined) return undefined;
  return { to: { host: host || from.host, port: Number(port) }, isAsking: kind === 'ASK' };
}
