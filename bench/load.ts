import { type LoadReply, openConnection } from './http-connection.ts';
import { type LatencyMs, summarise } from './statistics.ts';

/** What is sent, over how many connections and for how long. */
export type Load = {
  /** Such as `http://127.0.0.1:8000`. */
  origin: string;
  /** Each has one request under way at any moment. */
  connections: number;
  /** The next request of a connection, made with `encodeRequest`. */
  next(connection: number): Buffer;
  /** Throws at whatever is not the expected success; the whole measurement then fails. */
  check(reply: LoadReply, connection: number): void;
  /** Ends the load early, as if its time were over. */
  signal?: AbortSignal;
} & ({ durationMs: number } | { requests: number });

/** What a load found out. */
export type LoadResult = { count: number; elapsedMs: number; ratePerSecond: number; latencyMs: LatencyMs };

/**
 * Sends requests over keep-alive connections, on each the next one as soon as the last is answered, and says how many
 * were answered how quickly. The clock starts when every connection is open and stops at the last reply.
 */
export async function measureLoad(load: Load): Promise<LoadResult> {
  const connections = await Promise.all(Array.from({ length: load.connections }, () => openConnection(load.origin)));
  const latenciesMs: number[] = [];
  const startedAtMs = performance.now();
  const endsAtMs = 'durationMs' in load ? startedAtMs + load.durationMs : Number.POSITIVE_INFINITY;
  let left = 'requests' in load ? load.requests : Number.POSITIVE_INFINITY;

  async function drive(connection: number): Promise<void> {
    for (let sentAtMs = startedAtMs; left > 0 && sentAtMs < endsAtMs && !load.signal?.aborted; ) {
      left -= 1;
      const reply = await connections[connection]?.send(load.next(connection));
      const repliedAtMs = performance.now();
      if (reply === undefined) throw new Error('a connection is missing');
      load.check(reply, connection);
      latenciesMs.push(repliedAtMs - sentAtMs);
      sentAtMs = repliedAtMs;
    }
  }

  try {
    await Promise.all(connections.map((_, connection) => drive(connection)));
    const elapsedMs = performance.now() - startedAtMs;
    const count = latenciesMs.length;
    return { count, elapsedMs, ratePerSecond: count / (elapsedMs / 1000), latencyMs: summarise(latenciesMs) };
  } finally {
    for (const connection of connections) connection.close();
  }
}

/** Fails at a reply that has not this status, with what it said. */
export function expectStatus(reply: LoadReply, status: number): void {
  if (reply.status === status) return;
  throw new Error(`${status} was expected, and the reply was ${reply.status}: ${reply.body.toString().slice(0, 500)}`);
}
