import { setPriority } from 'node:os';
import { parentPort } from 'node:worker_threads';
import { verifySync } from '@node-rs/bcrypt';

// As the service's own threads, so that whatever else the machine does weighs on both alike.
if (process.platform === 'linux') setPriority(0, 10);

/** Checks one password so often, with nothing around it. */
parentPort?.on('message', ({ hash, password, times }: { hash: string; password: string; times: number }) => {
  const tookMs: number[] = [];
  for (let time = 0; time < times; time += 1) {
    const startedAtMs = performance.now();
    if (!verifySync(password, hash)) throw new Error('the password does not match');
    tookMs.push(performance.now() - startedAtMs);
  }
  parentPort?.postMessage(tookMs);
});
