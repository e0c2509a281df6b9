import { availableParallelism } from 'node:os';
import { startBareRoute } from './bare.ts';
import { judge } from './budgets.ts';
import { startLatchkey } from './latchkey.ts';
import { describeMachine, describeServers, describeVersions } from './machine.ts';
import { measureLogins, measureRequests, measureStorm } from './measure.ts';
import type { BenchOptions, Rounds } from './options.ts';
import { describePeers, installPeers, peers } from './peer-subjects.ts';
import { profileWorks } from './profile.ts';
import type { Results } from './results.ts';
import { measureStarts, waysToStart } from './starts.ts';
import type { Subject } from './subject.ts';

// What the service itself would choose (HASH_THREADS); given to both sides, so that they cannot differ.
const threadsMax = 8;

/** Starts everything, measures it and stops it again. Rejects at the first reply that is not the expected success. */
export async function runBench(options: BenchOptions, report: (line: string) => void): Promise<Results> {
  const startedAtMs = performance.now();
  const threads = Math.min(availableParallelism(), threadsMax);
  const started = new AsyncDisposableStack();
  try {
    const subjects = await startSubjects(options, threads, started, report);
    // Before anything is measured: the files may be changed meanwhile, and the disk is quiet.
    const surroundings = {
      machine: describeMachine(),
      versions: {
        ...describeVersions(),
        ...(await describeServers(options.backend)),
        ...(options.withPeers ? describePeers() : {}),
      },
    };
    const works = await measureWorks(subjects, options, threads, report);
    for (const { process } of subjects) await process.stop();
    const starts = options.parts.has('start') ? await startAgain(subjects, options, report) : [];
    const [first] = subjects;
    const profiles =
      options.profileFolder === undefined || first === undefined
        ? []
        : await profileWorks(first, options, options.profileFolder);
    return {
      takenAt: new Date().toISOString(),
      database: options.backend === 'sqlite+memory' ? 'sqlite' : 'postgres',
      command: options.command,
      elapsedSeconds: Math.round((performance.now() - startedAtMs) / 1_000),
      ...surroundings,
      settings: describeSettings(options, threads),
      works,
      starts,
      profiles,
      budgets: judge({ works, starts }),
    };
  } finally {
    await started.disposeAsync();
  }
}

async function startSubjects(
  { backend, users, connections, bcryptCost, withPeers }: BenchOptions,
  threads: number,
  started: AsyncDisposableStack,
  report: (line: string) => void,
): Promise<Subject[]> {
  const subjects: Subject[] = [];
  const add = async (starting: Promise<Subject>) => {
    const subject = await starting;
    started.defer(subject.close);
    subjects.push(subject);
  };
  const environment = { BCRYPT_COST: String(bcryptCost), HASH_THREADS: String(threads) };
  for (const count of users) {
    report(`seeding ${count.toLocaleString('en')} users`);
    await add(startLatchkey({ backend, users: count, chains: connections, environment }));
  }
  if (withPeers) {
    report('starting the peers');
    installPeers();
    for (const start of peers) await add(start({ users: users[0] ?? 0, chains: connections }));
  }
  return subjects;
}

async function measureWorks(
  subjects: readonly Subject[],
  options: BenchOptions,
  threads: number,
  report: (line: string) => void,
): Promise<Results['works']> {
  const [first] = subjects;
  if (first === undefined) throw new Error('there is nothing to measure');
  const { parts } = options;
  const works: Results['works'] = [];
  if (parts.has('me') || parts.has('refresh')) {
    report('measuring requests');
    const bare = await startBareRoute(first);
    works.push(...(await measureRequests(subjects, bare, options).finally(bare.close)));
  }
  if (parts.has('login')) {
    report('measuring logins');
    works.push(...(await measureLogins(subjects, options, threads)));
  }
  if (parts.has('storm')) {
    report('measuring reads during a storm of logins');
    const own = subjects.filter(({ server }) => server === 'latchkey');
    works.push(...(await measureStorm(own, options, threads)));
  }
  return works;
}

function startAgain(
  subjects: readonly Subject[],
  { starts }: BenchOptions,
  report: (line: string) => void,
): Promise<Results['starts']> {
  report('measuring starts');
  return measureStarts(subjects.flatMap(waysToStart), starts);
}

function describeSettings(options: BenchOptions, threads: number): Results['settings'] {
  const { backend, bcryptCost, requests, logins, storm } = options;
  const isSqlite = backend === 'sqlite+memory';
  return {
    database: isSqlite ? 'SQLite, journal_mode=WAL, synchronous=FULL' : 'PostgreSQL with its defaults, and Redis',
    hash: `bcrypt, cost ${bcryptCost}`,
    HASH_THREADS: threads,
    RATE_LIMITS: 'off',
    LOG_LEVEL: 'info, to a file',
    'rounds of requests': describeRounds(requests),
    'rounds of logins': describeRounds(logins),
    'rounds of storms': describeRounds(storm),
  };
}

function describeRounds({ warmUps, rounds, durationMs }: Rounds): string {
  return `${rounds} of ${durationMs / 1_000} s, after ${warmUps} that ${warmUps === 1 ? 'does' : 'do'} not count`;
}
