import { randomUUID } from 'node:crypto';
import { createClient, type RespVersions } from '@redis/client';
import { answerWithin } from '../deadline.ts';
import { addressText, type RedisAddress, type RedisCredentials, type RedisTarget, readRedisUrl } from '../redis-url.ts';
import { adviseOn } from './redis-advice.ts';

const connectWaitMs = 2_000;
const answerWaitMs = 2_000;
const pings = 5;
const probeLifeMs = 1_000;

/** What a look at one server found. `fault` is why it could not be used; the rest is then as far as it came. */
export type RedisServerFacts = {
  name: string;
  role: 'server' | 'sentinel';
  fault: string | undefined;
  version: string | undefined;
  /** What an operator should change about it. */
  advice: string[];
  /** The median of a few questions. */
  latencyMs: number | undefined;
  clockAheadMs: number | undefined;
};

/** What a look at everything that a REDIS_URL names found; `fault` is about the whole of it. */
export type RedisFacts = { mode: RedisTarget['mode']; fault: string | undefined; servers: RedisServerFacts[] };

type Client = ReturnType<typeof openClient>;

/** Looks at every server that a REDIS_URL names, and at those that they name. Leaves nothing behind. */
export async function inspectRedis(url: string, prefix: string): Promise<RedisFacts> {
  const target = readRedisUrl(url);
  switch (target.mode) {
    case 'single':
      return { mode: 'single', fault: undefined, servers: [await inspectServer(target.address, target, prefix)] };
    case 'sentinel':
      return inspectSentinels(target, prefix);
    case 'cluster':
      return inspectCluster(target, prefix);
  }
}

type Access = { isEncrypted: boolean; credentials: RedisCredentials; database?: number };

async function inspectServer(address: RedisAddress, access: Access, prefix: string): Promise<RedisServerFacts> {
  const facts = blankFacts(address, 'server');
  return withClient(address, access, facts, async (client) => {
    facts.advice = await adviseOn(client, address);
    facts.version = /^redis_version:([\w.-]+)/m.exec(await askInfo(client))?.[1];
    facts.latencyMs = await measureLatency(client);
    facts.clockAheadMs = await compareClock(client);
    // What every code needs: a script that writes a key of ours.
    const script = "return redis.call('set', KEYS[1], '1', 'px', ARGV[1])";
    const key = `${prefix}doctor:${randomUUID()}`;
    await answerWithin(answerWaitMs, client.sendCommand(['EVAL', script, '1', key, String(probeLifeMs)])).catch(
      (error) => {
        // A cluster's server has only some of the keys, and says so: that is an answer.
        if (!/^(?:MOVED|ASK) /.test(String(error?.message))) throw error;
      },
    );
  });
}

async function inspectSentinels(target: RedisTarget & { mode: 'sentinel' }, prefix: string): Promise<RedisFacts> {
  const named = new Map<string, RedisAddress>();
  const access = { isEncrypted: target.isEncrypted, credentials: target.sentinelCredentials };
  const sentinels = await Promise.all(
    target.sentinels.map((address) => {
      const facts = blankFacts(address, 'sentinel');
      return withClient(address, access, facts, async (client) => {
        const answer = await client.sendCommand(['SENTINEL', 'GET-MASTER-ADDR-BY-NAME', target.masterName]);
        if (!Array.isArray(answer)) throw new Error(`it knows no master named ${target.masterName}`);
        const master = { host: String(answer[0]), port: Number(answer[1]) };
        named.set(addressText(master), master);
        await client.sendCommand(['SENTINEL', 'CKQUORUM', target.masterName]);
      });
    }),
  );
  const masters = await Promise.all([...named.values()].map((address) => inspectServer(address, target, prefix)));
  const fault =
    named.size === 0
      ? 'no sentinel names the master'
      : named.size > 1
        ? `the sentinels name different masters: ${[...named.keys()].join(', ')}`
        : undefined;
  return { mode: 'sentinel', fault, servers: [...sentinels, ...masters] };
}

async function inspectCluster(target: RedisTarget & { mode: 'cluster' }, prefix: string): Promise<RedisFacts> {
  const found = new Map(target.seeds.map((address) => [addressText(address), address]));
  const states: string[] = [];
  const faults: string[] = [];
  for (const seed of target.seeds) {
    const facts = blankFacts(seed, 'server');
    await withClient(seed, target, facts, async (client) => {
      const info = String(await client.sendCommand(['CLUSTER', 'INFO']));
      states.push(/^cluster_state:(\w+)/m.exec(info)?.[1] ?? 'unknown');
      for (const { master } of await client.clusterSlots()) {
        const address = { host: master.host || seed.host, port: master.port };
        found.set(addressText(address), address);
      }
    });
    if (facts.fault !== undefined) faults.push(facts.fault);
  }
  const servers = await Promise.all([...found.values()].map((address) => inspectServer(address, target, prefix)));
  const fault =
    states.length === 0
      ? `no server answers as one of a cluster (${faults[0]})`
      : states.includes('ok')
        ? undefined
        : `the cluster cannot serve every key (cluster_state is ${states[0]})`;
  return { mode: 'cluster', fault, servers };
}

function blankFacts(address: RedisAddress, role: RedisServerFacts['role']): RedisServerFacts {
  const unknown = { fault: undefined, version: undefined, latencyMs: undefined, clockAheadMs: undefined };
  return { name: addressText(address), role, advice: [], ...unknown };
}

/** Connects once, without trying again, and notes what goes wrong. */
async function withClient(
  address: RedisAddress,
  access: Access,
  facts: RedisServerFacts,
  look: (client: Client) => Promise<void>,
): Promise<RedisServerFacts> {
  const client = openClient(address, access, facts.role === 'sentinel' ? 2 : 3);
  client.on('error', () => {});
  try {
    await answerWithin(connectWaitMs, client.connect());
    await answerWithin(answerWaitMs * 4, look(client));
  } catch (error) {
    facts.fault = error instanceof Error ? error.message : String(error);
  } finally {
    client.destroy();
  }
  return facts;
}

function openClient(
  { host, port }: RedisAddress,
  { isEncrypted, credentials, database = 0 }: Access,
  RESP: RespVersions,
) {
  return createClient({
    ...credentials,
    database,
    RESP,
    disableOfflineQueue: true,
    maintNotifications: 'disabled',
    socket: {
      host,
      port,
      ...(isEncrypted && { tls: true as const }),
      connectTimeout: connectWaitMs,
      reconnectStrategy: false,
    },
  });
}

async function askInfo(client: Client): Promise<string> {
  return String(await client.sendCommand(['INFO', 'server']).catch(() => ''));
}

async function measureLatency(client: Client): Promise<number> {
  const times: number[] = [];
  for (let ping = 0; ping < pings; ping += 1) {
    const askedAtMs = performance.now();
    await client.ping();
    times.push(performance.now() - askedAtMs);
  }
  return times.sort((a, b) => a - b)[Math.floor(pings / 2)] ?? 0;
}

/** Undefined where the server tells no time. */
async function compareClock(client: Client): Promise<number | undefined> {
  const beforeMs = Date.now();
  const time = await client.sendCommand<[string, string]>(['TIME']).catch(() => undefined);
  if (time === undefined) return undefined;
  return Number(time[0]) * 1000 + Number(time[1]) / 1000 - (beforeMs + Date.now()) / 2;
}
