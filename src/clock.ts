/** The only source of time: milliseconds since the Unix epoch. Tests pass one that they move by hand. */
export type Clock = { now(): number };

/** Reads the machine's clock. */
export const systemClock: Clock = { now: () => Date.now() };

/** Formats milliseconds since the epoch as an RFC 3339 time in UTC, the form of every time in the API. */
export function toRfc3339(epochMs: number): string {
  return new Date(epochMs).toISOString();
}
