import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { hashSync } from '@node-rs/bcrypt';
import type { LoadResult } from './load.ts';
import { summarise } from './statistics.ts';

/** The hash function in bare threads: what no login can be faster than. */
export type RawHash = {
  /** How long one check takes when nothing else is done. */
  checkMs: number;
  /** Makes every thread check the password so often. */
  measure(timesEach: number): Promise<LoadResult>;
  close(): Promise<void>;
};

// As long as what the service gives to bcrypt: base64 of 48 bytes.
const password = 'x'.repeat(64);

/** Starts so many threads that do nothing but check a bcrypt hash of this cost. */
export async function startRawHash({ threads, cost }: { threads: number; cost: number }): Promise<RawHash> {
  const hash = hashSync(password, { cost });
  const workers = Array.from({ length: threads }, () => new Worker(new URL('./raw-hash-worker.ts', import.meta.url)));

  async function run(worker: Worker, times: number): Promise<number[]> {
    worker.postMessage({ hash, password, times });
    const [tookMs] = await once(worker, 'message');
    return tookMs;
  }

  async function measure(timesEach: number): Promise<LoadResult> {
    const startedAtMs = performance.now();
    const tookMs = (await Promise.all(workers.map((worker) => run(worker, timesEach)))).flat();
    const elapsedMs = performance.now() - startedAtMs;
    const count = tookMs.length;
    return { count, elapsedMs, ratePerSecond: count / (elapsedMs / 1_000), latencyMs: summarise(tookMs) };
  }

  const { latencyMs } = await measure(3);
  return {
    checkMs: latencyMs.p50,
    measure,
    async close() {
      await Promise.all(workers.map((worker) => worker.terminate()));
    },
  };
}
