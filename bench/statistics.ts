/** How long requests took, in milliseconds. */
export type LatencyMs = { p50: number; p95: number; p99: number; max: number };

/** The middle of some numbers, and the least and the greatest. */
export type Spread = { median: number; min: number; max: number };

/** Finds the percentiles of latencies. */
export function summarise(latenciesMs: readonly number[]): LatencyMs {
  const sorted = Float64Array.from(latenciesMs).sort();
  const percentile = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0;
  return { p50: percentile(0.5), p95: percentile(0.95), p99: percentile(0.99), max: percentile(1) };
}

/** The middle value; of an even number of them, the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const upper = sorted[sorted.length >> 1] ?? 0;
  return sorted.length % 2 === 1 ? upper : ((sorted[(sorted.length >> 1) - 1] ?? upper) + upper) / 2;
}

/** The median of some numbers with their range. */
export function spread(values: readonly number[]): Spread {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) };
}
