import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '@redis/client';
import { findFreePort } from '../ports.ts';
import { type PrivateServer, runRedis } from './servers.ts';

/** One server of a group. */
export type Member = PrivateServer & { port: number };
export type ClusterMember = Member & { busPort: number };

/** A cluster of masters that share the slots. */
export type RedisCluster = {
  url: string;
  masters: ClusterMember[];
  replicas: ClusterMember[];
  remove(): Promise<void>;
};

/** A master with its replicas, and the sentinels that watch them. */
export type WatchedRedis = { url: string; servers: Member[]; sentinels: Member[]; remove(): Promise<void> };

// With what a URL must percent-encode, and with a + that a form would read as a space.
const password = 'pass+w/o?r:d@%';
const sentinelPassword = 'watch+er/s@%';
const masterName = 'main-1';

const slotCount = 16_384;
const formLimitMs = 20_000;
// Shorter than anybody's in production, and longer than a busy machine lets a server wait for its turn.
const nodeTimeoutMs = 2_000;
const downAfterMs = 1_000;

/** Starts a cluster of three masters with a third of the slots each. One that is away costs its own slots alone. */
export async function startCluster(): Promise<RedisCluster> {
  const masters: ClusterMember[] = [];
  const replicas: ClusterMember[] = [];
  const remove = async () => void (await Promise.all([...masters, ...replicas].map((member) => member.remove())));
  try {
    for (const _ of [1, 2, 3]) masters.push(await startClusterMember());
    await Promise.all(masters.map(giveSlots));
    await introduce(masters);
    await Promise.all(masters.map((master) => waitUntilFormed(master, masters.length)));
    const url = `redis+cluster://:${encodeURIComponent(password)}@${hostsOf(masters)}`;
    return { url, masters, replicas, remove };
  } catch (error) {
    await remove();
    throw error;
  }
}

/** Adds a master that has no slots yet. */
export async function addMaster({ masters, replicas }: RedisCluster): Promise<ClusterMember> {
  const added = await startClusterMember();
  masters.push(added);
  await introduce(masters);
  await waitUntilFormed(added, masters.length + replicas.length);
  return added;
}

/** Adds a replica that takes over when its master dies. */
export async function addReplica({ masters, replicas }: RedisCluster, master: ClusterMember): Promise<ClusterMember> {
  const added = await startClusterMember();
  replicas.push(added);
  await introduce([...masters, added]);
  await waitUntilFormed(added, masters.length + replicas.length);
  await ask(added.url, ['CLUSTER', 'REPLICATE', await ask<string>(master.url, ['CLUSTER', 'MYID'])]);
  await waitFor(async () => /master_link_status:up/.test(await ask<string>(added.url, ['INFO', 'replication'])));
  return added;
}

/** Moves a slot and the keys in it from one master to the other, as an operator's tool does. */
export async function moveSlot(slot: number, from: ClusterMember, to: ClusterMember): Promise<void> {
  const [fromId = '', toId = ''] = await Promise.all(
    [from, to].map(({ url }) => ask<string>(url, ['CLUSTER', 'MYID'])),
  );
  await ask(to.url, ['CLUSTER', 'SETSLOT', String(slot), 'IMPORTING', fromId]);
  await ask(from.url, ['CLUSTER', 'SETSLOT', String(slot), 'MIGRATING', toId]);
  for (;;) {
    const keys = await ask<string[]>(from.url, ['CLUSTER', 'GETKEYSINSLOT', String(slot), '10']);
    if (keys.length === 0) break;
    const target = ['127.0.0.1', String(to.port), '', '0', '5000', 'AUTH', password, 'KEYS', ...keys];
    await ask(from.url, ['MIGRATE', ...target]);
  }
  // The new owner first: told last, the old one would send everybody to a server that does not know it yet.
  for (const { url } of [to, from]) await ask(url, ['CLUSTER', 'SETSLOT', String(slot), 'NODE', toId]);
}

/** Starts a master with two replicas and three sentinels, two of which must agree that the master is down. */
export async function startWatchedRedis(): Promise<WatchedRedis> {
  const servers: Member[] = [];
  const sentinels: Member[] = [];
  const remove = async () => void (await Promise.all([...servers, ...sentinels].map((member) => member.remove())));
  try {
    const master = await startMember(password, dataLines());
    servers.push(master);
    const replica = [...dataLines(), `replicaof 127.0.0.1 ${master.port}`];
    for (const _ of [1, 2]) servers.push(await startMember(password, replica));
    await waitFor(async () => /connected_slaves:2/.test(await ask<string>(master.url, ['INFO', 'replication'])));
    const watch = [
      `sentinel monitor ${masterName} 127.0.0.1 ${master.port} 2`,
      `sentinel auth-pass ${masterName} "${password}"`,
      `sentinel down-after-milliseconds ${masterName} ${downAfterMs}`,
      `sentinel failover-timeout ${masterName} 5000`,
    ];
    for (const _ of [1, 2, 3]) sentinels.push(await startMember(sentinelPassword, watch, ['--sentinel']));
    await Promise.all(sentinels.map(waitUntilWatching));
    return { url: sentinelUrl(sentinels), servers, sentinels, remove };
  } catch (error) {
    await remove();
    throw error;
  }
}

/** Two masters of one name, of which the older is named by two sentinels and the one of the newest failover by one. */
export async function startDividedSentinels({ isEpochTold }: { isEpochTold: boolean }) {
  const members: Member[] = [];
  const start = async (...args: Parameters<typeof startMember>) => {
    members.push(await startMember(...args));
    return members.at(-1) as Member;
  };
  const remove = async () => void (await Promise.all(members.map((member) => member.remove())));
  try {
    const older = await start(password, dataLines());
    const newer = await start(password, dataLines());
    const watch = ({ port }: Member, configEpoch: number) => [
      `sentinel monitor ${masterName} 127.0.0.1 ${port} 2`,
      `sentinel auth-pass ${masterName} "${password}"`,
      `sentinel config-epoch ${masterName} ${configEpoch}`,
      ...(isEpochTold ? [] : [`user default on ">${sentinelPassword}" ~* &* +@all -sentinel|master`]),
    ];
    const sentinels: Member[] = [];
    // They watch different servers, and so never hear of each other.
    for (const lines of [watch(older, 6), watch(older, 6), watch(newer, 7)]) {
      sentinels.push(await start(sentinelPassword, lines, ['--sentinel']));
    }
    return { url: sentinelUrl(sentinels), older, newer, remove };
  } catch (error) {
    await remove();
    throw error;
  }
}

/** The port of the master that a sentinel names. */
export async function masterPort(sentinel: Member): Promise<number> {
  const [, port] = await ask<string[]>(sentinel.url, ['SENTINEL', 'GET-MASTER-ADDR-BY-NAME', masterName]);
  return Number(port);
}

/** Sends one command to one server on a connection of its own. */
export async function ask<T>(url: string, command: readonly string[]): Promise<T> {
  const client = createClient({ url, RESP: 2, socket: { reconnectStrategy: false } });
  client.on('error', () => {});
  await client.connect();
  try {
    return (await client.sendCommand([...command])) as T;
  } finally {
    client.destroy();
  }
}

/** Asks again and again until it is so. */
export async function waitFor(isSo: () => Promise<boolean>, limitMs = formLimitMs): Promise<void> {
  const giveUpAtMs = performance.now() + limitMs;
  while (!(await isSo())) {
    if (performance.now() > giveUpAtMs) throw new Error(`it did not come about within ${limitMs} ms: ${isSo}`);
    await sleep(25);
  }
}

async function startMember(secret: string, lines: readonly string[], options: string[] = []): Promise<Member> {
  const port = await findFreePort();
  const url = `redis://:${encodeURIComponent(secret)}@127.0.0.1:${port}`;
  const server = await runRedis({ url, lines: [`port ${port}`, `requirepass "${secret}"`, ...lines], options });
  return { ...server, port };
}

async function startClusterMember(): Promise<ClusterMember> {
  // Of its own, because the usual one, ten thousand higher, may be no port at all.
  const busPort = await findFreePort();
  const lines = [
    'cluster-enabled yes',
    `cluster-port ${busPort}`,
    `cluster-node-timeout ${nodeTimeoutMs}`,
    'cluster-require-full-coverage no',
  ];
  return { ...(await startMember(password, [...dataLines(), ...lines])), busPort };
}

function dataLines(): string[] {
  return ['save ""', 'appendonly no', `masterauth "${password}"`, 'repl-diskless-sync-delay 0'];
}

async function giveSlots({ url }: Member, index: number, masters: readonly Member[]): Promise<void> {
  const boundary = (share: number) => Math.ceil((share * slotCount) / masters.length);
  await ask(url, ['CLUSTER', 'ADDSLOTSRANGE', String(boundary(index)), String(boundary(index + 1) - 1)]);
  await ask(url, ['CLUSTER', 'SET-CONFIG-EPOCH', String(index + 1)]);
}

async function introduce(masters: readonly ClusterMember[]): Promise<void> {
  const [first, ...others] = masters;
  for (const { port, busPort } of others) {
    await ask(first?.url ?? '', ['CLUSTER', 'MEET', '127.0.0.1', String(port), String(busPort)]);
  }
}

async function waitUntilFormed({ url }: Member, size: number): Promise<void> {
  await waitFor(async () => {
    const info = await ask<string>(url, ['CLUSTER', 'INFO']);
    const isWhole = /cluster_state:ok/.test(info) && /cluster_slots_ok:16384/.test(info);
    return isWhole && info.includes(`cluster_known_nodes:${size}\r`);
  });
}

async function waitUntilWatching({ url }: Member): Promise<void> {
  await waitFor(async () => {
    const fields = await ask<string[]>(url, ['SENTINEL', 'MASTER', masterName]);
    const read = (name: string) => fields[fields.indexOf(name) + 1];
    return read('flags') === 'master' && read('num-slaves') === '2' && read('num-other-sentinels') === '2';
  });
}

function sentinelUrl(sentinels: readonly Member[]): string {
  const auth = `:${encodeURIComponent(password)}@`;
  const query = `?sentinel_password=${encodeURIComponent(sentinelPassword)}`;
  return `redis+sentinel://${auth}${hostsOf(sentinels)}/${masterName}${query}`;
}

function hostsOf(members: readonly Member[]): string {
  return members.map(({ port }) => `127.0.0.1:${port}`).join(',');
}
