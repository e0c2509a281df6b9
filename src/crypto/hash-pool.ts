import { Piscina } from 'piscina';
import type { HashTask, HashWorkerData } from './hash-worker.ts';

/** Thrown instead of waiting when the queue is full, or when the wait was too long; nothing was hashed. */
export class HashQueueFullError extends Error {
  override readonly name = 'HashQueueFullError';
}

/** Thrown to whoever waited when their signal aborted before the task started. */
export class HashAbandonedError extends Error {
  override readonly name = 'HashAbandonedError';
}

/** Worker threads behind a bounded queue. */
export type HashPool = {
  /** Runs the task off the event loop. Rejects at once when the queue is full. */
  run(task: HashTask, signal?: AbortSignal): Promise<string | boolean>;
  /** How many tasks wait for a thread. */
  waiting(): number;
  /** Ends the threads once the tasks that they run are done. */
  close(): Promise<void>;
};

/** Is told of every task what it cost, or why it was not run. */
export type HashObserver = {
  onDone(task: { operation: HashTask['kind']; waitedMs: number; tookMs: number }): void;
  onRefused(reason: 'queue_full' | 'waited_too_long' | 'client_gone'): void;
};

type PoolOptions = {
  threads: number;
  maxWaiting: number;
  maxWaitMs?: number;
  /** How far the threads stand back for the event loop, from 0 to 19; only on Linux has a thread a priority of its own. */
  niceness?: number;
  observer?: HashObserver;
};

type Ticket = { start: () => void; abandon: () => void };

// Clients have given up by then, and what is hashed for them is lost to those who come after.
const maxWaitMs = 20_000;

// A tenth of the share that the event loop gets where both want the same processor: enough that reads hardly notice a storm
// of logins, and that a login amid a storm of reads still ends within seconds. Decision 18 has the figures.
const defaultNiceness = 10;

/**
 * Creates the pool. The queue is ours rather than Piscina's because an abort there would end the thread
 * of a task that already runs, which costs more than finishing it; here an abort frees a place in the
 * queue and leaves running work alone.
 */
export function createHashPool(options: PoolOptions): HashPool {
  const workerData: HashWorkerData = { niceness: options.niceness ?? defaultNiceness };
  const piscina = new Piscina({
    filename: new URL('./hash-worker.ts', import.meta.url).href,
    name: 'runHashTask',
    // Each thread takes 13 MB and a moment to start, which a login hardly notices.
    minThreads: 0,
    maxThreads: options.threads,
    idleTimeout: 60_000,
    workerData,
  });
  const queue = new Set<Ticket>();
  let running = 0;

  async function run(task: HashTask, signal?: AbortSignal): Promise<string | boolean> {
    if (signal?.aborted) throw abandoned();
    const askedAtMs = performance.now();
    if (running >= options.threads) await waitForTurn(signal);
    else running += 1;
    const startedAtMs = performance.now();
    try {
      const result = await piscina.run(task);
      const times = { waitedMs: startedAtMs - askedAtMs, tookMs: performance.now() - startedAtMs };
      options.observer?.onDone({ operation: task.kind, ...times });
      return result;
    } finally {
      startNext();
    }
  }

  async function waitForTurn(signal: AbortSignal | undefined): Promise<void> {
    if (queue.size >= options.maxWaiting) {
      options.observer?.onRefused('queue_full');
      throw new HashQueueFullError('the password hash queue is full');
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const ticket: Ticket = {
      start: resolve,
      abandon: () => {
        queue.delete(ticket);
        reject(abandoned());
      },
    };
    queue.add(ticket);
    signal?.addEventListener('abort', ticket.abandon, { once: true });
    const limit = setTimeout(() => {
      queue.delete(ticket);
      options.observer?.onRefused('waited_too_long');
      reject(new HashQueueFullError('the wait for a hash thread was too long'));
    }, options.maxWaitMs ?? maxWaitMs);
    try {
      await promise;
    } finally {
      clearTimeout(limit);
      signal?.removeEventListener('abort', ticket.abandon);
    }
  }

  function abandoned(): HashAbandonedError {
    options.observer?.onRefused('client_gone');
    return new HashAbandonedError('the client went away');
  }

  // The place of a finished task passes straight to the oldest one that waits, so that a newcomer
  // cannot slip in between.
  function startNext(): void {
    const [next] = queue;
    if (next === undefined) {
      running -= 1;
      return;
    }
    queue.delete(next);
    next.start();
  }

  return { run, waiting: () => queue.size, close: () => piscina.close() };
}
