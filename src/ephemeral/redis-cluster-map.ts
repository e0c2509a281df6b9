import { answerWithin } from '../deadline.ts';
import { addressText, type RedisAddress } from '../redis-url.ts';
import { type ClusterView, newestOf, readView } from './redis-cluster-view.ts';
import { limitReports } from './redis-link.ts';
import { type NodeSettings, openNode, type RedisNode } from './redis-node.ts';
import { slotCount } from './redis-slots.ts';

const lookEveryMs = 500;
const firstLookEveryMs = 50;
// Without any sign of a change; it is what notices a failover that cost no connection.
const lookAgainAfterMs = 10_000;
const viewLimitMs = 1_000;
// One alone may be cut off from the others; of a few the one that knows of the latest change is believed.
const maxAskedNodes = 5;
const maxNodes = 1_000;
const guestTtlMs = 60_000;

/** Who has which slots, with a connection to each of them. It keeps itself up to date. */
export type ClusterMap = {
  ownerOf(slot: number): RedisNode | undefined;
  /** Notes that a slot has another master, and gives it. */
  reassign(slot: number, to: RedisAddress): RedisNode;
  /** The server that a slot is on its way to: a new master has no slot of its own at first. */
  meet(address: RedisAddress): RedisNode;
  openedAtMs(node: RedisNode): number;
  listMasters(): RedisNode[];
  /** Whether every slot has a master that can be reached. */
  isWhole(): boolean;
  /** Has the map brought up to date at the next look. */
  suspectChange(): void;
  close(): void;
};

/** Draws the map of the cluster that the servers of the URL belong to. */
export function openClusterMap({ seeds }: { seeds: readonly RedisAddress[] }, settings: NodeSettings): ClusterMap {
  const nodes = createNodeSet(settings);
  const guests = new Map<string, { address: RedisAddress; metAtMs: number }>();
  let owners: (string | undefined)[] = [];
  let masters = new Map<string, RedisAddress>();
  let isCovered = false;
  let isChangeSuspected = true;
  let lookedAtMs = 0;

  const isReachable = (text: string) => nodes.get(text)?.isReady === true;
  const isWhole = () => isCovered && [...masters.keys()].every(isReachable);

  /** Connects to the masters, and to the servers of the URL for as long as no master can be asked. */
  function connectToMasters(): void {
    const nowMs = performance.now();
    for (const [text, { metAtMs }] of guests) if (nowMs - metAtMs > guestTtlMs) guests.delete(text);
    const isAnyReachable = [...masters.keys()].some(isReachable);
    const met = [...guests.values()].map(({ address }) => address);
    nodes.keepOnly([...masters.values(), ...met, ...(isAnyReachable ? [] : seeds)]);
  }

  function adopt({ ranges }: ClusterView): void {
    owners = Array(slotCount).fill(undefined);
    masters = new Map(ranges.map(({ master }) => [addressText(master), master]));
    for (const { from, to, master } of ranges) owners.fill(addressText(master), from, to + 1);
    isCovered = owners.every((owner) => owner !== undefined);
    connectToMasters();
  }

  async function look(): Promise<void> {
    connectToMasters();
    const isDue = isChangeSuspected || !isWhole() || performance.now() - lookedAtMs > lookAgainAfterMs;
    if (!isDue) return;
    isChangeSuspected = false;
    const asked = shuffle(nodes.list().filter((node) => node.isReady)).slice(0, maxAskedNodes);
    const answers = await Promise.allSettled(asked.map((node) => answerWithin(viewLimitMs, readView(node))));
    const newest = newestOf(answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : [])));
    if (newest === undefined) {
      // That of a server that is no part of a cluster, or that does not let this user ask.
      for (const answer of answers) if (answer.status === 'rejected') throw answer.reason;
      return;
    }
    lookedAtMs = performance.now();
    if (!looking.isStopped()) adopt(newest);
  }

  const looking = repeat(look, () => (owners.length === 0 ? firstLookEveryMs : lookEveryMs), settings.onError);

  return {
    ownerOf: (slot) => nodes.get(owners[slot] ?? ''),
    reassign(slot, to) {
      isChangeSuspected = true;
      masters.set(addressText(to), to);
      owners[slot] = addressText(to);
      return nodes.open(to);
    },
    meet(address) {
      guests.set(addressText(address), { address, metAtMs: performance.now() });
      return nodes.open(address);
    },
    openedAtMs: nodes.openedAtMs,
    listMasters: () => [...masters.keys()].flatMap((text) => nodes.get(text) ?? []),
    isWhole,
    suspectChange: () => {
      isChangeSuspected = true;
    },
    close() {
      looking.stop();
      nodes.close();
    },
  };
}

/** The connections by address. */
function createNodeSet(settings: NodeSettings) {
  const nodes = new Map<string, { node: RedisNode; openedAtMs: number }>();
  let isClosed = false;

  function open(address: RedisAddress): RedisNode {
    const known = nodes.get(addressText(address));
    if (known !== undefined) return known.node;
    if (isClosed) throw new Error('the connection is closed');
    if (nodes.size >= maxNodes) throw new Error(`the cluster names more than ${maxNodes} servers`);
    const node = openNode(address, settings);
    nodes.set(addressText(address), { node, openedAtMs: performance.now() });
    return node;
  }

  return {
    open,
    get: (text: string) => nodes.get(text)?.node,
    list: () => [...nodes.values()].map(({ node }) => node),
    openedAtMs: ({ address }: RedisNode) => nodes.get(addressText(address))?.openedAtMs ?? 0,
    keepOnly(addresses: readonly RedisAddress[]): void {
      const wanted = new Set(addresses.map(addressText));
      for (const [text, { node }] of nodes) {
        if (wanted.has(text)) continue;
        nodes.delete(text);
        node.close();
      }
      for (const address of addresses) open(address);
    },
    close(): void {
      isClosed = true;
      for (const { node } of nodes.values()) node.close();
    },
  };
}

/** Does something again and again, one after the other, until it is stopped. */
function repeat(act: () => Promise<void>, pauseMs: () => number, onError: (error: Error) => void) {
  let isStopped = false;
  let timer: NodeJS.Timeout | undefined;
  const { report, forget } = limitReports((cause) =>
    onError(new Error('no server tells who has which slots of the cluster', { cause })),
  );
  async function turn(): Promise<void> {
    // Stopping breaks what is under way, which is nobody's trouble.
    await act().then(forget, (error) => isStopped || report(error));
    if (!isStopped) timer = setTimeout(turn, pauseMs());
  }
  timer = setTimeout(turn, 0);
  return {
    isStopped: () => isStopped,
    stop(): void {
      isStopped = true;
      clearTimeout(timer);
    },
  };
}

function shuffle<T>(items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}
