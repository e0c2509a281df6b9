import type { LoadResult } from './load.ts';
import type { Rounds } from './options.ts';
import type { BenchServer } from './program.ts';
import type { CpuCost, WorkResult } from './results.ts';
import { median, spread } from './statistics.ts';

/** One thing to measure in every round. */
export type Side = Pick<WorkResult, 'work' | 'server' | 'users' | 'connections'> & {
  /** Whose processor time counts; undefined where there is no server. */
  process: Pick<BenchServer, 'cpuSeconds'> | undefined;
  /** Does it for about this long. More than one result is of works that are done at the same time. */
  measure(durationMs: number): Promise<LoadResult>;
};

type Sample = LoadResult & { serverCpuSeconds?: number; generatorCpuSeconds?: number };

/**
 * Measures the sides in turn, round after round, each round in the other order than the one before, because machines are
 * noisy and grow warm: what disturbs one side disturbs its neighbours too. The first rounds warm up and do not count.
 */
export async function measureInRounds(
  sides: readonly Side[],
  { warmUps, rounds, durationMs }: Rounds,
): Promise<WorkResult[]> {
  const samples = new Map<Side, Sample[]>(sides.map((side) => [side, []]));
  for (let round = 0; round < warmUps + rounds; round += 1) {
    for (const side of round % 2 === 0 ? sides : sides.toReversed()) {
      const sample = await measureOnce(side, durationMs);
      if (round >= warmUps) samples.get(side)?.push(sample);
    }
  }
  return sides.map((side) => combine(side, samples.get(side) ?? []));
}

async function measureOnce(side: Side, durationMs: number): Promise<Sample> {
  const cpuBefore = process.cpuUsage();
  const serverBefore = side.process?.cpuSeconds();
  const result = await side.measure(durationMs);
  const serverAfter = side.process?.cpuSeconds();
  const { user, system } = process.cpuUsage(cpuBefore);
  const hasServer = serverBefore !== undefined && serverAfter !== undefined;
  return {
    ...result,
    ...(hasServer ? { serverCpuSeconds: serverAfter - serverBefore } : {}),
    generatorCpuSeconds: (user + system) / 1_000_000,
  };
}

/** Puts what one side was measured to do in all rounds into one row. */
export function combine(side: Omit<Side, 'measure' | 'process'>, samples: readonly Sample[]): WorkResult {
  const of = (pick: (sample: Sample) => number) => samples.map(pick);
  const total = (pick: (sample: Sample) => number) => of(pick).reduce((sum, value) => sum + value, 0);
  const count = total((sample) => sample.count);
  const elapsedSeconds = total((sample) => sample.elapsedMs) / 1_000;
  const costOf = (pick: (sample: Sample) => number | undefined): CpuCost | null => {
    if (samples.some((sample) => pick(sample) === undefined)) return null;
    const seconds = total((sample) => pick(sample) ?? 0);
    return { microsecondsPerRequest: (seconds / count) * 1e6, processors: seconds / elapsedSeconds };
  };
  const { work, server, users, connections } = side;
  return {
    work,
    server,
    users,
    connections,
    count,
    ratePerSecond: spread(of((sample) => sample.ratePerSecond)),
    latencyMs: {
      p50: median(of(({ latencyMs }) => latencyMs.p50)),
      p95: median(of(({ latencyMs }) => latencyMs.p95)),
      p99: median(of(({ latencyMs }) => latencyMs.p99)),
      max: Math.max(...of(({ latencyMs }) => latencyMs.max)),
    },
    serverCpu: costOf((sample) => sample.serverCpuSeconds),
    generatorCpu: costOf((sample) => sample.generatorCpuSeconds),
  };
}
