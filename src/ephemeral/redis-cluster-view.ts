import type { RedisAddress } from '../redis-url.ts';
import type { RedisNode } from './redis-node.ts';
import { slotCount } from './redis-slots.ts';

/** Who serves which slots, as one server of a cluster sees it. */
export type ClusterView = {
  /** Whether the server finds the cluster able to serve. One that is cut off from the most does not. */
  isWorking: boolean;
  /** Grows with every change that the servers agree on. */
  epoch: number;
  ranges: readonly { from: number; to: number; master: RedisAddress }[];
};

/** Asks a server for its view. */
export async function readView({ client, address }: RedisNode): Promise<ClusterView> {
  const [slots, info] = await Promise.all([client.clusterSlots(), client.clusterInfo()]);
  return {
    isWorking: isWorking(info),
    epoch: Number(/^cluster_current_epoch:(\d+)/m.exec(info)?.[1] ?? 0),
    ranges: slots
      .filter(({ from, to }) => from >= 0 && to < slotCount)
      // A server that does not know by which name it is reached leaves it out: by the one that it was asked under.
      .map(({ from, to, master }) => ({ from, to, master: { host: master.host || address.host, port: master.port } })),
  };
}

/** Whether a server says in CLUSTER INFO that the cluster can serve. */
export function isWorking(clusterInfo: string): boolean {
  return /^cluster_state:ok/m.test(clusterInfo);
}

/** Which of several views to believe: one of a server that is not cut off, and of these the newest. */
export function newestOf(views: readonly ClusterView[]): ClusterView | undefined {
  return [...views].sort((a, b) => Number(b.isWorking) - Number(a.isWorking) || b.epoch - a.epoch)[0];
}
