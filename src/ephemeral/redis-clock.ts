const samplesKept = 10;

/** What a server's clock says, as far as this process can know it. */
export type ServerClock = {
  /** Takes note of an answer to TIME that has just come. */
  note(seconds: number, microseconds: number): void;
  /** A moment of this process's clock (`performance.now()`) on the server's, in milliseconds; undefined when unknown. */
  at(localMs: number): number | undefined;
  forget(): void;
};

/**
 * Compares a server's clock with this process's, because nobody keeps the two together. An answer was made before
 * it came, so the server was never behind what it says: each sample is a lower bound, and the highest of the last
 * few is the closest. A moment is therefore given too early by the time that an answer travels, and never too late.
 * A server's clock that is set back is believed after as many samples.
 */
export function createServerClock(): ServerClock {
  const aheadMs: number[] = [];
  return {
    note(seconds, microseconds) {
      aheadMs.push(seconds * 1_000 + microseconds / 1_000 - performance.now());
      if (aheadMs.length > samplesKept) aheadMs.shift();
    },
    at: (localMs) => (aheadMs.length === 0 ? undefined : localMs + Math.max(...aheadMs)),
    forget: () => aheadMs.splice(0),
  };
}
