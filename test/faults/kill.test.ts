import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { failStart, get, startProgram } from '../program.ts';
import { backends, createScratch } from '../system.ts';
import { howOften } from '../thorough.ts';
import { strikeUnderLoad } from './mixed-load.ts';
import { reasonToSkip, startPostgres, startRedis } from './servers.ts';
import { type Trial, withTrial } from './trial.ts';

const kills = howOften({ brief: 8, thorough: 200, variable: 'KILLS' });
const timeout = 60_000 + kills * 30_000;
const crashes = 3;
// About what a start takes: some processes are killed in the middle of it.
const startMs = 700;

describe('kill -9 under mixed load', { concurrency: true }, () => {
  test('loses nothing that was acknowledged, and leaves no act half done (sqlite+memory)', { timeout }, (t) =>
    withTrial(t, {}, (trial) => killAgainAndAgain(t, trial)),
  );

  const reason = backends.includes('postgres+redis') ? reasonToSkip('redis') : 'PostgreSQL and Redis do not answer';
  test(
    'loses nothing that was acknowledged, and leaves no act half done (postgres+redis)',
    { timeout, skip: reason },
    (t) => onPostgresAndRedis((environment) => withTrial(t, { environment }, (trial) => killAgainAndAgain(t, trial))),
  );
});

async function killAgainAndAgain(t: TestContext, { ledger, environment, databaseUrl, check, countWrites }: Trial) {
  const { random } = ledger;
  const recoveriesMs: number[] = [];
  // Only a clean end leaves compiled code behind, which spares every start after it a third of its work.
  await ledger.program.stop('SIGTERM');
  ledger.program = await startProgram(environment);
  const startedAtMs = performance.now();
  for (let kill = 1; kill <= kills; kill += 1) {
    await strikeUnderLoad(ledger, 20 + random.below(80), () => ledger.program.stop('SIGKILL'));
    let killedAtMs = performance.now();
    const connections = await listConnections(databaseUrl);
    if (random.below(4) === 0) {
      await failStart(environment, random.below(startMs));
      killedAtMs = performance.now();
    }
    ledger.program = await startProgram(environment);
    recoveriesMs.push(performance.now() - killedAtMs);
    ledger.isCrashing = false;
    await untilClosed(databaseUrl, connections);
    await check(`after kill ${kill}`);
  }
  recoveriesMs.sort((a, b) => a - b);
  const [median, longest] = [recoveriesMs[recoveriesMs.length >> 1], recoveriesMs.at(-1)].map((ms) =>
    Math.round(ms ?? 0),
  );
  t.diagnostic(`measured: ready again ${median} ms after kill -9 (median of ${kills}; ${longest} ms at most)`);
  const tookSeconds = Math.round((performance.now() - startedAtMs) / 1000);
  t.diagnostic(`measured: ${countWrites()} acknowledged writes checked over ${kills} kills in ${tookSeconds} s`);
}

describe('a hard stop of PostgreSQL under mixed load', { skip: reasonToSkip('postgres') }, () => {
  test('loses nothing that was acknowledged, and needs no restart of the service', async (t) => {
    // It waits for the disk here, as in production.
    const server = await startPostgres({ settings: ['fsync=on'] });
    try {
      await withTrial(t, { environment: { DATABASE_URL: server.url } }, async ({ ledger, check, countWrites }) => {
        // The connection may break before or after the server has carried out a commit.
        ledger.meaningOf503 = 'unanswered';
        for (let crash = 1; crash <= crashes; crash += 1) {
          await strikeUnderLoad(ledger, 50 + ledger.random.below(100), () => server.stop());
          await server.start();
          await untilReady(ledger.program);
          ledger.isCrashing = false;
          await check(`after crash ${crash}`);
        }
        t.diagnostic(`measured: ${countWrites()} acknowledged writes checked over ${crashes} crashes of PostgreSQL`);
      });
    } finally {
      await server.remove();
    }
  });
});

async function onPostgresAndRedis(run: (environment: Record<string, string>) => Promise<void>): Promise<void> {
  const scratch = await createScratch('postgres+redis');
  // Of its own, because the program's prefix of keys cannot be chosen.
  const redis = await startRedis();
  try {
    await run({ DATABASE_URL: scratch.environment.DATABASE_URL ?? '', REDIS_URL: redis.url });
  } finally {
    await redis.remove();
    await scratch.remove();
  }
}

async function untilReady(program: Trial['ledger']['program']): Promise<void> {
  const giveUpAtMs = performance.now() + 10_000;
  while ((await get(program, '/health/ready')).status !== 200) {
    assert.ok(performance.now() < giveUpAtMs, 'the service does not become ready again');
    await sleep(10);
  }
}

/** The connections of a process that was just killed: PostgreSQL may still be busy with what it had sent. */
async function listConnections(databaseUrl: string): Promise<number[]> {
  if (!databaseUrl.startsWith('postgres')) return [];
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const { rows } = await client.query<{ pid: number }>(`select pid from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid()`);
    return rows.map(({ pid }) => pid);
  } finally {
    await client.end();
  }
}

/** Waits until none of the connections is left, and with them no transaction. */
async function untilClosed(databaseUrl: string, connections: readonly number[]): Promise<void> {
  const giveUpAtMs = performance.now() + 10_000;
  while (connections.length > 0) {
    const open = await listConnections(databaseUrl);
    if (!connections.some((pid) => open.includes(pid))) return;
    assert.ok(performance.now() < giveUpAtMs, 'the transactions of the killed process stay open');
    await sleep(10);
  }
}
