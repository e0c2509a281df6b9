import type { Clock } from '../src/clock.ts';

/** A clock that stands still until a test moves it. */
export type TestClock = Clock & { advanceSeconds(seconds: number): void };

/** Starts at the present, because Redis collects entries by its own clock. */
export function createTestClock(): TestClock {
  let nowMs = Date.now();
  return {
    now: () => nowMs,
    advanceSeconds(seconds) {
      nowMs += seconds * 1000;
    },
  };
}
