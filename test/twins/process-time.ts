import { openSync, readSync } from 'node:fs';

/** Names the file that says by how many milliseconds (a double, little-endian) a process's clock is ahead. */
export const clockFileVariable = 'TEST_CLOCK_FILE';
/** Set, it lets what a process does by the minute happen ten times a second. */
export const quickTimersVariable = 'TEST_QUICK_TIMERS';

const minuteMs = 60_000;
const quickMs = 100;

const path = process.env[clockFileVariable];
if (path !== undefined) moveClock(path);
if (process.env[quickTimersVariable] !== undefined) hurryTimers();

/**
 * Loaded before the real program, so that a test can move the clock of several processes at the same moment. Read at
 * every look at the clock: a message would arrive at one process before the other.
 */
function moveClock(file: string): void {
  const descriptor = openSync(file, 'r');
  const bytes = Buffer.alloc(8);
  const realNow = Date.now;
  Date.now = () => {
    readSync(descriptor, bytes, 0, bytes.length, 0);
    return realNow() + bytes.readDoubleLE();
  };
}

function hurryTimers(): void {
  const realSetInterval = globalThis.setInterval;
  const hurried = (act: () => void, everyMs?: number) =>
    realSetInterval(act, everyMs !== undefined && everyMs >= minuteMs ? quickMs : everyMs);
  globalThis.setInterval = hurried as typeof setInterval;
}
