import { setPriority } from 'node:os';
import { isMainThread, workerData } from 'node:worker_threads';
import { hashSync as bcryptHashSync } from '@node-rs/bcrypt';
import { loadArgon2 } from './argon2.ts';
import { verifyForeignHash } from './foreign-hash.ts';
import { readForeignHash } from './foreign-spellings.ts';
import { argon2Parameters, type HashScheme } from './hash-scheme.ts';

/** One unit of work for the pool. The input is the keyed pre-hash, or a plain password for a hash from elsewhere. */
export type HashTask =
  | { kind: 'hash'; scheme: HashScheme; input: string }
  | {
      kind: 'verify';
      encoded: string;
      input: string;
      /** A cheaper bcrypt hash is checked with as much work as this cost takes. */
      bcryptCost?: number;
    };

const bcryptCostPattern = /^\$2[abxy]\$(\d\d)\$/;

/** What each thread is started with. */
export type HashWorkerData = { niceness: number };

// On Linux this lowers the calling thread alone, so that a login storm leaves the processor to the
// event loop first. Elsewhere it may be refused or mean the whole process; hashing works either way.
if (process.platform === 'linux' && !isMainThread) {
  try {
    setPriority(0, (workerData as HashWorkerData).niceness);
  } catch {
    // A sandbox may forbid it; the pool is then only bounded, not polite.
  }
}

/** Runs one task; Piscina calls it by name in each thread. */
export function runHashTask(task: HashTask): string | boolean {
  if (task.kind === 'hash') {
    return task.scheme.name === 'bcrypt'
      ? bcryptHashSync(task.input, { cost: task.scheme.cost })
      : loadArgon2().hashSync(task.input, argon2Parameters);
  }
  const hash = readForeignHash(task.encoded);
  // Whoever asks has read it before. To call it a mismatch would hide a damaged row.
  if (typeof hash === 'string') throw new Error(`a stored password hash cannot be checked: ${hash}`);
  const matches = verifyForeignHash(task.input, hash);
  addMissingWork(task.input, task.encoded, task.bcryptCost);
  return matches;
}

/**
 * Makes the check of a hash from before the cost was raised take as long as one of today's, whatever it found. Each
 * cost is twice the work of the one below: after a check at cost 10, hashes at 10 and 11 complete the work of 12.
 */
function addMissingWork(input: string, encoded: string, wanted = 0): void {
  const made = Number(bcryptCostPattern.exec(encoded)?.[1] ?? wanted);
  for (let cost = made; cost < wanted; cost += 1) bcryptHashSync(input, { cost });
}
