import { ClientClosedError, ClientOfflineError, ErrorReply } from '@redis/client';
import { waitUntil } from '../deadline.ts';
import { type RedisTarget, readRedisUrl } from '../redis-url.ts';
import { openClusterTopology } from './redis-cluster.ts';
import { commandDeadlineMs } from './redis-link.ts';
import type { NodeSettings, RedisNode } from './redis-node.ts';
import { redisScripts } from './redis-scripts.ts';
import { openSentinelTopology } from './redis-sentinel.ts';
import { openSingleTopology, type Topology } from './redis-topology.ts';

type Scripts = typeof redisScripts;
type ScriptName = keyof Scripts;

/** Every script by its name; its first argument is its only key. */
type ScriptCalls = {
  [Name in ScriptName]: (
    ...args: Scripts[Name]['parseCommand'] extends (parser: infer _, ...args: infer Args) => void ? Args : never
  ) => Promise<ReturnType<Scripts[Name]['transformReply']>>;
};

/**
 * The one way to Redis or Valkey, whatever REDIS_URL names. Every command is for one key and fails at once when its
 * server is away; whoever waits for an answer sets the deadline.
 */
export type RedisConnection = ScriptCalls & {
  /** True while every key can be served, as far as is known. */
  readonly isReady: boolean;
  /** As the library of the rate limits calls it, with one key. */
  eval(script: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>;
  del(key: string): Promise<number>;
  lRem(key: string, count: number, element: string): Promise<number>;
  /** Rejects unless every key can be served. */
  ping(): Promise<void>;
  close(): void;
};

/** Starts connecting and returns at once: servers that are absent at the start are an error to report, and heal. */
export function connectRedis(
  url: string,
  onError: (error: Error) => void,
  onWarning: (text: string) => void = () => {},
): RedisConnection {
  const target = readRedisUrl(url);
  const { isEncrypted, credentials } = target;
  return createConnection(openTopology(target, { isEncrypted, credentials, onError, onWarning }));
}

function openTopology(target: RedisTarget, settings: NodeSettings): Topology {
  switch (target.mode) {
    case 'single':
      return openSingleTopology(target, settings);
    case 'sentinel':
      return openSentinelTopology(target, settings);
    case 'cluster':
      return openClusterTopology(target, settings);
  }
}

function createConnection(topology: Topology): RedisConnection {
  function run<T>(key: string, command: (node: RedisNode) => Promise<T>): Promise<T> {
    const giveUpAtMs = performance.now() + commandDeadlineMs;
    return topology.run(key, giveUpAtMs, (node, isAsking) => (isAsking ? announce(node, command) : command(node)));
  }

  async function runScript(name: ScriptName, key: string, args: readonly string[]): Promise<unknown> {
    const script = redisScripts[name];
    const hasDeadline = 'HAS_DEADLINE' in script;
    const giveUpAtMs = performance.now() + commandDeadlineMs;
    let wasSent = false;
    try {
      return await topology.run(key, giveUpAtMs, async (node, isAsking) => {
        const timed = hasDeadline ? [...args, node.deadlineAt(giveUpAtMs)] : args;
        const call = node.client[name] as (key: string, ...args: readonly string[]) => Promise<unknown>;
        wasSent = true;
        if (!isAsking) return call.call(node.client, key, ...timed);
        // Sent anew to a server that does not know it, a script would come without its announcement.
        await node.client.scriptLoad(script.SCRIPT);
        return announce(node, () => call.call(node.client, key, ...timed));
      });
    } catch (error) {
      // It may yet be carried out, until its deadline: its failure is told then and not before, so that nothing
      // happens after it was refused.
      if (hasDeadline && wasSent && isLostConnection(error)) await waitUntil(giveUpAtMs);
      throw error;
    }
  }

  const scriptCalls = Object.fromEntries(
    Object.keys(redisScripts).map((name) => [
      name,
      (key: string, ...args: string[]) => runScript(name as ScriptName, key, args),
    ]),
  ) as ScriptCalls;

  return {
    ...scriptCalls,
    get isReady() {
      return topology.isReady;
    },
    eval: (script, options) => run(options.keys[0] ?? '', (node) => node.client.eval(script, options)),
    del: (key) => run(key, (node) => node.client.del(key)),
    lRem: (key, count, element) => run(key, (node) => node.client.lRem(key, count, element)),
    ping: () => topology.ping(),
    close: () => topology.close(),
  };
}

/** Whether a command that was handed to the client failed without an answer. It has its own words for not sending. */
function isLostConnection(error: unknown): boolean {
  const isAnswer = error instanceof ErrorReply;
  const isUnsent = error instanceof ClientOfflineError || error instanceof ClientClosedError;
  return !isAnswer && !isUnsent && !(error instanceof Error && error.message === 'The queue is full');
}

/** Announces that the key is known to be on its way. Both are written in this turn, so nothing gets between them. */
async function announce<T>(node: RedisNode, command: (node: RedisNode) => Promise<T>): Promise<T> {
  const [, reply] = await Promise.all([node.client.sendCommand(['ASKING']), command(node)]);
  return reply;
}
