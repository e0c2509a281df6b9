import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { encodeRequest, openConnection } from './http-connection.ts';
import { type LoadResult, measureLoad } from './load.ts';
import { type BenchServer, createInstallation, type Installation, startProgram } from './program.ts';
import { type Cost, costPerRequest, type Meters, openMeters } from './scaling-meters.ts';
import { startBalancingNginx } from './scaling-nginx.ts';
import { measureRedisKeys, measureStorage, type RedisBytes, type StorageBytes } from './scaling-storage.ts';
import { prepareWorks, type Work } from './scaling-works.ts';
import { type Seeded, seedUsers } from './seed.ts';
import { median } from './statistics.ts';

/**
 * `npm run bench:scaling`: what a request costs each process with one, two and three instances of the program behind
 * nginx on one PostgreSQL and one Redis. On one machine all of them share its processors, so the rates say what the
 * machine can do; what the page docs/scaling.md reckons with is the costs.
 */
export type ScalingResults = {
  machine: { processor: string; cores: number; node: string; postgres: string; nginx: string };
  users: number;
  measurements: Measurement[];
  hotShareOfRefreshes: number | undefined;
  connectionsToPostgres: number;
  storageBytes: StorageBytes;
  redisBytes: RedisBytes;
};

/** Of each work with so many instances: the medians of the rounds. */
export type Measurement = {
  work: Work['name'] | 'me without cache';
  instances: number;
  ratePerSecond: number;
  p99Ms: number;
  cost: Cost;
};

const { values } = parseArgs({
  options: {
    users: { type: 'string', default: '20000' },
    seconds: { type: 'string', default: '4' },
    rounds: { type: 'string', default: '2' },
    json: { type: 'string' },
  },
});
const durationMs = Number(values.seconds) * 1000;
const counts = [1, 2, 3];
const samples = 1_000;
const codes = 100;
// Tokens are for the service and not for one instance of it.
const publicUrl = 'http://127.0.0.1:8000';

type Bench = { installation: Installation; seeded: Seeded; url: string };

await run();

async function run(): Promise<void> {
  const installation = await createInstallation('postgres+redis', { PUBLIC_URL: publicUrl });
  const { DATABASE_URL: url = '' } = installation.environment;
  try {
    const users = Number(values.users);
    const seeded = await seedUsers({ environment: installation.environment, users, samples, report: console.log });
    const results: ScalingResults = {
      machine: await describeMachine(url),
      users,
      storageBytes: await measureStorage(url),
      ...(await measureInstances({ installation, seeded, url })),
    };
    if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(results, null, 2)}\n`);
  } finally {
    await installation.remove();
  }
}

async function measureInstances({ installation, seeded, url }: Bench) {
  const servers = [await startProgram(installation)];
  for (const _more of counts.slice(1)) servers.push(await startProgram(installation));
  const uncached = await startProgram(installation, { environment: { SESSION_CACHE: 'off' } });
  let balancerPid: number | undefined;
  const meters = await openMeters(url, {
    instances: () => [...servers, uncached].map(({ pid }) => pid),
    balancer: () => balancerPid,
  });
  try {
    const [first] = servers;
    if (first === undefined) throw new Error('no instance was started');
    await askForCodes(first, seeded);
    const worksAt = await prepareWorks(first.origin, seeded);
    const found: Measurement[] = [];
    const hotShares: number[] = [];
    for (let round = 0; round < Number(values.rounds); round += 1) {
      for (const instances of round % 2 === 0 ? counts : counts.toReversed()) {
        const nginx = await startBalancingNginx(servers.slice(0, instances).map(({ port }) => port));
        balancerPid = nginx.pid;
        for (const work of worksAt(nginx.origin)) {
          await meters.readHotShare();
          found.push(await measureWork(meters, work, { name: work.name, instances, origin: nginx.origin }));
          const hotShare = work.name === 'refresh' ? await meters.readHotShare() : undefined;
          if (hotShare !== undefined) hotShares.push(hotShare);
        }
        balancerPid = undefined;
        await nginx.stop();
      }
      const [me] = worksAt(uncached.origin);
      if (me !== undefined) {
        found.push(await measureWork(meters, me, { name: 'me without cache', instances: 1, origin: uncached.origin }));
      }
    }
    // The entries of the session cache live for seconds, so they are looked at right after they were made.
    const [reading] = worksAt(first.origin);
    if (reading !== undefined) await measureLoad({ ...reading, origin: first.origin, durationMs: 1_000 });
    const redisBytes = await measureRedisKeys();
    const measurements = summariseRounds(found);
    for (const measurement of measurements) console.log(describe(measurement));
    return {
      measurements,
      hotShareOfRefreshes: hotShares.length === 0 ? undefined : median(hotShares),
      connectionsToPostgres: await countConnections(url),
      redisBytes,
    };
  } finally {
    await meters.close();
    await Promise.all([...servers, uncached].map((server) => server.stop()));
  }
}

type Place = { name: Measurement['work']; instances: number; origin: string };

async function measureWork(meters: Meters, work: Work, { name, instances, origin }: Place): Promise<Measurement> {
  const { next, check, connections } = work;
  // Connections are opened, pages read and the cache filled before anything counts.
  await measureLoad({ origin, connections, durationMs: durationMs / 4, next, check });
  const before = await meters.read();
  const result: LoadResult = await measureLoad({ origin, connections, durationMs, next, check });
  const after = await meters.read();
  const cost = costPerRequest(before, after, result.count);
  return { work: name, instances, ratePerSecond: result.ratePerSecond, p99Ms: result.latencyMs.p99, cost };
}

function summariseRounds(found: readonly Measurement[]): Measurement[] {
  const groups = Map.groupBy(found, ({ work, instances }) => `${work} ${instances}`);
  return [...groups.values()].flatMap((rounds) => {
    const [first] = rounds;
    if (first === undefined) return [];
    const names = Object.keys(first.cost) as (keyof Cost)[];
    const cost = Object.fromEntries(
      names.map((name) => [name, median(rounds.map((round) => round.cost[name]))]),
    ) as Cost;
    const ratePerSecond = median(rounds.map((round) => round.ratePerSecond));
    return { ...first, ratePerSecond, p99Ms: median(rounds.map(({ p99Ms }) => p99Ms)), cost };
  });
}

function describe({ work, instances, ratePerSecond, p99Ms, cost }: Measurement): string {
  const parts = Object.entries(cost).map(([name, value]) => `${name} ${value.toFixed(value < 100 ? 3 : 0)}`);
  return `${work.padEnd(17)} ${instances} ${ratePerSecond.toFixed(0).padStart(6)}/s p99 ${p99Ms.toFixed(1)} ms: ${parts.join(', ')}`;
}

/** Leaves codes in Redis, to see how large they are. */
async function askForCodes({ origin }: BenchServer, { sample }: Seeded): Promise<void> {
  const connection = await openConnection(origin);
  for (const { email } of sample.slice(-codes)) {
    const body = JSON.stringify({ email, purpose: 'login' });
    const reply = await connection.send(encodeRequest(origin, { method: 'POST', path: '/auth/send-code', body }));
    if (reply.status !== 202) throw new Error(`a code was answered ${reply.status}`);
  }
  connection.close();
}

async function countConnections(url: string): Promise<number> {
  const [row] = await queryOnce(url, 'select count(*) as n from pg_stat_activity where datname = current_database()');
  // Ours is one of them.
  return Number(row?.n) - 1;
}

async function describeMachine(url: string): Promise<ScalingResults['machine']> {
  const [row] = await queryOnce(url, `select current_setting('server_version') as version`);
  const [processor] = cpus();
  // It prints its version where it prints its errors.
  const nginx = execFileSync('sh', ['-c', 'nginx -v 2>&1'], { encoding: 'utf8' }).trim();
  return {
    processor: processor?.model ?? 'unknown',
    cores: cpus().length,
    node: process.version,
    postgres: String(row?.version),
    nginx: nginx.replace(/^.*nginx\//, ''),
  };
}

async function queryOnce(url: string, text: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}
