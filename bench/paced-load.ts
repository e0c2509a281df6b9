import { setTimeout as sleep } from 'node:timers/promises';
import { type LoadReply, openConnection } from './http-connection.ts';

/** So many requests a second, however quickly they are answered, over as many connections as are needed for it. */
export type PacedLoad = {
  origin: string;
  ratePerSecond: number;
  next(): Buffer;
  check(reply: LoadReply): void;
  /** Ends the load; what is under way is waited for. */
  signal: AbortSignal;
};

/**
 * Sends requests at a steady rate and returns how long each took from when it was due. Unlike clients that wait for
 * their replies, it goes on asking while the service stands still, and so sees every pause as often as users would.
 */
export async function measurePacedLoad(load: PacedLoad): Promise<number[]> {
  const latenciesMs: number[] = [];
  const idle: Awaited<ReturnType<typeof openConnection>>[] = [];
  const underWay = new Set<Promise<void>>();
  let failure: unknown;
  const startedAtMs = performance.now();
  const dueAtMs = (index: number) => startedAtMs + (index * 1000) / load.ratePerSecond;

  async function ask(dueMs: number): Promise<void> {
    const connection = idle.pop() ?? (await openConnection(load.origin));
    load.check(await connection.send(load.next()));
    latenciesMs.push(performance.now() - dueMs);
    idle.push(connection);
  }

  for (let index = 0; !load.signal.aborted && failure === undefined; index += 1) {
    const asked = ask(dueAtMs(index)).catch((error: unknown) => {
      failure ??= error;
    });
    underWay.add(asked);
    asked.finally(() => underWay.delete(asked));
    const waitMs = dueAtMs(index + 1) - performance.now();
    // A timer is a millisecond late at times, and what is due then is sent at once.
    if (waitMs > 0) await sleep(waitMs);
  }
  await Promise.all(underWay);
  for (const connection of idle) connection.close();
  if (failure !== undefined) throw failure;
  return latenciesMs;
}
