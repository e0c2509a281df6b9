import { type LoadResult, measureLoad } from './load.ts';
import type { BenchOptions } from './options.ts';
import type { BenchServer } from './program.ts';
import { startRawHash } from './raw-hash.ts';
import type { WorkResult } from './results.ts';
import { combine, measureInRounds, type Side } from './rounds.ts';
import type { Subject, Traffic } from './subject.ts';

// Enough that each thread has its next password at once.
const loginsPerThread = 4;
const stormPerThread = 8;
// Few enough not to drive the tokens of the other reads out of what the service remembers.
const firstReadsMax = 2_000;

/** Measures the bare route, and reads and refreshes of every subject. */
export async function measureRequests(
  subjects: readonly Subject[],
  bare: { process: BenchServer; traffic: Traffic },
  options: BenchOptions,
): Promise<WorkResult[]> {
  const { connections, parts } = options;
  const load = (process: BenchServer, traffic: Traffic) => (durationMs: number) =>
    measureLoad({ ...traffic, origin: process.origin, connections, durationMs });
  const sides: Side[] = [
    {
      work: 'bare',
      server: 'fastify',
      users: null,
      connections,
      process: bare.process,
      measure: load(bare.process, bare.traffic),
    },
  ];
  for (const { server, users, process, read, readFirst, refresh } of subjects) {
    const side = { server, users, connections, process };
    if (parts.has('me')) sides.push({ ...side, work: 'me', measure: load(process, read) });
    if (parts.has('refresh') && refresh !== undefined) {
      sides.push({ ...side, work: 'refresh', measure: load(process, refresh) });
    }
    if (parts.has('me') && parts.has('refresh') && readFirst !== undefined) {
      // Half of them, because in the next round it may come before the refreshes.
      const requests = () => Math.min(Math.ceil(readFirst.left() / 2), firstReadsMax);
      const measure = () => measureLoad({ ...readFirst, origin: process.origin, connections, requests: requests() });
      sides.push({ ...side, work: 'me_first', measure });
    }
  }
  const results = await measureInRounds(sides, options.requests);
  for (const subject of subjects) await subject.checkRotations();
  return results;
}

/** Measures the hash function alone and logins of every subject: in each round each does the same number of checks. */
export async function measureLogins(
  subjects: readonly Subject[],
  { logins, bcryptCost }: BenchOptions,
  threads: number,
): Promise<WorkResult[]> {
  const rawHash = await startRawHash({ threads, cost: bcryptCost });
  try {
    const timesEach = (durationMs: number) => Math.max(1, Math.round(durationMs / rawHash.checkMs));
    const hash: Side = {
      work: 'hash',
      server: 'bcrypt',
      users: null,
      connections: threads,
      process: undefined,
      measure: (durationMs) => rawHash.measure(timesEach(durationMs)),
    };
    const connections = loginsPerThread * threads;
    const sides = subjects.flatMap(({ server, users, process, login }): Side[] => {
      if (login === undefined) return [];
      const measure = (durationMs: number) =>
        measureLoad({ ...login, origin: process.origin, connections, requests: timesEach(durationMs) * threads });
      return [{ work: 'login', server, users, connections, process, measure }];
    });
    return await measureInRounds([hash, ...sides], logins);
  } finally {
    await rawHash.close();
  }
}

/** Measures reads without and with a storm of logins meanwhile, and the storm. */
export async function measureStorm(
  subjects: readonly Subject[],
  { storm, connections }: BenchOptions,
  threads: number,
): Promise<WorkResult[]> {
  const results: WorkResult[] = [];
  const stormConnections = stormPerThread * threads;
  const storms = new Map<Subject, LoadResult[]>(subjects.map((subject) => [subject, []]));
  const sides = subjects.flatMap((subject): Side[] => {
    const { server, users, process, read } = subject;
    const side = { server, users, connections, process };
    const measureReads = (durationMs: number) =>
      measureLoad({ ...read, origin: process.origin, connections, durationMs });
    return [
      { ...side, work: 'me_before_storm', measure: measureReads },
      {
        ...side,
        // It spends most of its time on the logins.
        process: undefined,
        work: 'me_in_storm',
        measure: async (durationMs) => {
          const { reads, logins } = await measureInStorm(subject, stormConnections, () => measureReads(durationMs));
          storms.get(subject)?.push(logins);
          return reads;
        },
      },
    ];
  });
  results.push(...(await measureInRounds(sides, storm)));
  for (const [{ server, users }, all] of storms) {
    const samples = all.slice(storm.warmUps);
    results.push(combine({ work: 'storm', server, users, connections: stormConnections }, samples));
  }
  return results;
}

/** Begins the reads once the queue of logins is full, and ends the storm with them. */
async function measureInStorm(
  { process, login }: Subject,
  connections: number,
  measureReads: () => Promise<LoadResult>,
): Promise<{ reads: LoadResult; logins: LoadResult }> {
  if (login === undefined) throw new Error('there is nothing to storm with');
  const end = new AbortController();
  const begun = Promise.withResolvers<void>();
  const logins = measureLoad({
    ...login,
    origin: process.origin,
    connections,
    durationMs: Number.POSITIVE_INFINITY,
    signal: end.signal,
    check(reply, connection) {
      login.check(reply, connection);
      begun.resolve();
    },
  });
  // A storm that fails must not be waited for.
  logins.catch(begun.reject);
  await begun.promise;
  const reads = await measureReads().finally(() => end.abort());
  return { reads, logins: await logins };
}
