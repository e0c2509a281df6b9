import { test } from 'node:test';
import type { System } from '../system.ts';

/** How many rounds to play where so many show the race well in one process. */
type Rounds = (many: number) => number;

/** What several sides do at once, and what must hold afterwards, by the rule that it shows. */
export type Races = Readonly<Record<string, (system: System, rounds: Rounds) => Promise<void>>>;

/**
 * Makes a test of each race. The same ones are played against one system in this process, and against two
 * processes between which the sides are divided: there they meet at other points in every round, and a share of the
 * rounds is enough.
 */
export function testRaces(races: Races, system: () => System, share = 1): void {
  const rounds = (many: number) => Math.ceil(many * share);
  for (const [rule, play] of Object.entries(races)) test(rule, () => play(system(), rounds));
}

/** Does the same so many times at once. */
export function inParallel<T>(times: number, act: (index: number) => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: times }, (_, index) => act(index)));
}

/** Plays rounds in so many lanes at a time, so that statements of different rounds get between those of one. */
export async function inLanes(lanes: number, rounds: number, play: (round: number) => Promise<void>): Promise<void> {
  let next = 0;
  await inParallel(lanes, async () => {
    while (next < rounds) {
      const round = next;
      next += 1;
      await play(round);
    }
  });
}
