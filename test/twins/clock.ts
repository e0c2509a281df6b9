import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { TestClock } from '../clock.ts';
import { clockFileVariable } from './process-time.ts';

/** A clock that runs, and that a test moves on in every process with its environment at once. */
export type SharedClock = TestClock & { environment: Record<string, string>; close(): void };

/** Creates a clock that is kept in a folder. */
export function createSharedClock(folder: string): SharedClock {
  const path = join(folder, 'clock');
  const descriptor = openSync(path, 'w');
  let aheadMs = 0;
  const write = () => {
    const bytes = Buffer.alloc(8);
    bytes.writeDoubleLE(aheadMs);
    writeSync(descriptor, bytes, 0, bytes.length, 0);
  };
  write();
  return {
    environment: {
      [clockFileVariable]: path,
      NODE_OPTIONS: `--import=${pathToFileURL(join(import.meta.dirname, 'process-time.ts')).href}`,
    },
    now: () => Date.now() + aheadMs,
    advanceSeconds(seconds) {
      aheadMs += seconds * 1000;
      write();
    },
    close: () => closeSync(descriptor),
  };
}
