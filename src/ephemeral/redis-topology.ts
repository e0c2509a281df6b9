import type { RedisTarget } from '../redis-url.ts';
import { type NodeSettings, openNode, type RedisNode } from './redis-node.ts';

/** Finds the server that serves a key: there is one such thing for each form of REDIS_URL. */
export type Topology = {
  /** Every key can be served, as far as is known. */
  readonly isReady: boolean;
  /**
   * Sends a command to the server of the key, at once or not at all: nothing waits for a server that is away. It is
   * sent again only where a server of a cluster has refused it and named another.
   */
  run<T>(key: string, giveUpAtMs: number, send: Send<T>): Promise<T>;
  /** Rejects unless every key can be served. */
  ping(): Promise<void>;
  close(): void;
};

/** `isAsking`: the key is on its way to this server, which serves only who announces that it knows. */
export type Send<T> = (node: RedisNode, isAsking: boolean) => Promise<T>;

/** The topology of one server. */
export function openSingleTopology(target: RedisTarget & { mode: 'single' }, settings: NodeSettings): Topology {
  const node = openNode(target.address, { ...settings, database: target.database });
  return {
    get isReady() {
      return node.isReady;
    },
    async run(_key, _giveUpAtMs, send) {
      if (!node.isReady) throw new Error('Redis is not connected');
      return send(node, false);
    },
    async ping() {
      if (!node.isReady) throw new Error('Redis is not connected');
      await node.client.ping();
    },
    close: () => node.close(),
  };
}
