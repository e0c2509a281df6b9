import { setTimeout as sleep } from 'node:timers/promises';
import type { BenchOptions } from './options.ts';
import type { StartResult } from './results.ts';
import { spread } from './statistics.ts';
import type { Subject } from './subject.ts';

// The budget counts in millions of bytes.
const bytesPerMebibyte = 2 ** 20;

/** A way to start a server. */
type StartSide = { name: string; subject: Subject; environment: Record<string, string> };

/** The ways in which each is started: as it comes, and as if Node had never seen its source. */
export function waysToStart(subject: Subject): StartSide[] {
  const asItComes = { name: 'as it comes', subject, environment: {} };
  if (subject.server !== 'latchkey') return [asItComes];
  return [
    asItComes,
    { name: 'without Node’s compile cache', subject, environment: { NODE_DISABLE_COMPILE_CACHE: '1' } },
  ];
}

/**
 * Starts each again and again, in turn, on the database that it has: how long until it is ready, and how much memory it
 * has after a while without a request. The first starts of each fill caches and do not count.
 */
export async function measureStarts(
  sides: readonly StartSide[],
  { warmUps, times, idleMs }: BenchOptions['starts'],
): Promise<StartResult[]> {
  const taken = new Map(sides.map((side) => [side, { readyMs: [] as number[], idleMegabytes: [] as number[] }]));
  for (let time = 0; time < warmUps + times; time += 1) {
    for (const [side, { readyMs, idleMegabytes }] of time % 2 === 0 ? taken : [...taken].reverse()) {
      const program = await side.subject.restart({ environment: side.environment });
      try {
        await sleep(idleMs);
        if (time < warmUps) continue;
        readyMs.push(program.readyAfterMs);
        idleMegabytes.push((program.memoryMebibytes() * bytesPerMebibyte) / 1e6);
      } finally {
        await program.stop();
      }
    }
  }
  return [...taken].map(([{ name, subject }, { readyMs, idleMegabytes }]) => ({
    name,
    server: subject.server,
    users: subject.users,
    starts: times,
    readyMs: spread(readyMs),
    idleMegabytes: spread(idleMegabytes),
  }));
}
