import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { newId } from '../../src/crypto/ids.ts';
import { openDatabase } from '../../src/db/database.ts';
import { sealAll } from '../audit.ts';
import { newSecret } from '../config.ts';
import { startCommand } from '../copying.ts';
import { startProgram } from '../program.ts';
import { type Backend, backends, createScratch, startSystem } from '../system.ts';
import { reasonToSkipLong } from '../thorough.ts';
import { until } from '../until.ts';

const secret = newSecret();
// What does not grow with the number of events: Node with its collector's leave to wait, and the code.
const memoryLimitMebibytes = 300;
const backlog = 12_000;
const kills = 4;

/** Runs a check with the environment of a program and of commands on a database of its own. */
async function inOwnDatabase(
  backend: Backend,
  check: (environment: Record<string, string> & { DATA_DIR: string; DATABASE_URL: string }) => Promise<void>,
): Promise<void> {
  const scratch = await createScratch(backend);
  const DATA_DIR = scratch.environment.DATA_DIR ?? '';
  const DATABASE_URL = scratch.environment.DATABASE_URL ?? `sqlite:${DATA_DIR}/latchkey.db`;
  try {
    await check({ ...scratch.environment, DATA_DIR, DATABASE_URL, SECRET_KEY: secret });
  } finally {
    await scratch.remove();
  }
}

async function addEvents(url: string, count: number): Promise<void> {
  const database = await openDatabase(url, () => {});
  const origin = { client_address: '203.0.113.7', user_agent: 'a device', details: '{"method":"password"}' };
  for (let at = 0; at < count; at += 1_000) {
    const rows = Array.from({ length: Math.min(1_000, count - at) }, (_, index) => {
      return { id: newId(), type: 'login.failed', occurred_at: at + index, ...origin };
    });
    await database.db.insertInto('audit_events').values(rows).execute();
  }
  await database.close();
}

/** On a connection of its own, which is closed again: an open one would spare SQLite the recovery after a kill. */
async function countSealed(url: string): Promise<number> {
  const database = await openDatabase(url, () => {});
  try {
    const { sealed } = await database.db
      .selectFrom('audit_seals')
      .select(({ fn }) => fn.sum<number | null>('event_count').as('sealed'))
      .executeTakeFirstOrThrow();
    return Number(sealed ?? 0);
  } finally {
    await database.close();
  }
}

async function verify({ DATA_DIR: cwd, DATABASE_URL }: { DATA_DIR: string; DATABASE_URL: string }) {
  const { code, stdout, stderr, peakMebibytes } = await startCommand(['audit', 'verify', '--json'], {
    cwd,
    DATABASE_URL,
    SECRET_KEY: secret,
  }).ended;
  assert.equal(code, 0, stderr);
  return { ...JSON.parse(stdout), peakMebibytes };
}

for (const backend of backends) {
  describe(`the audit trail when it is large or its sealer dies (${backend})`, { skip: reasonToSkipLong }, () => {
    test('a sealer that is killed again and again leaves a chain that verifies, and the next one goes on', (t: TestContext) =>
      inOwnDatabase(backend, async (environment) => {
        await addEvents(environment.DATABASE_URL, backlog);
        let sealed = 0;
        for (let life = 0; life < kills; life += 1) {
          const program = await startProgram(environment);
          // The first turn is after five seconds. Each is killed somewhat later in it.
          await until(async () => (await countSealed(environment.DATABASE_URL)) > sealed, 60_000);
          await sleep(15 * life);
          await program.stop('SIGKILL');
          const found = await verify(environment);
          assert.equal(found.events + found.unsealed_events, backlog);
          assert.ok(found.events > sealed, 'what was sealed stays sealed');
          sealed = found.events;
        }
        const program = await startProgram(environment);
        await until(async () => (await verify(environment)).unsealed_events === 0, 40_000);
        await program.stop('SIGTERM');
        t.diagnostic(`${sealed} of ${backlog} events were sealed by those that were killed`);
      }));

    test('100,000 events are verified in bounded memory', (t: TestContext) =>
      inOwnDatabase(backend, async (environment) => {
        await addEvents(environment.DATABASE_URL, 100_000);
        const system = await startSystem(backend, environment);
        await sealAll(system.deps);
        await system.close();
        const startedAtMs = performance.now();
        const { events, seals, peakMebibytes } = await verify(environment);
        const seconds = ((performance.now() - startedAtMs) / 1000).toFixed(1);
        t.diagnostic(`${events} events in ${seals} seals in ${seconds} s, at most ${peakMebibytes} MiB of memory`);
        assert.equal(events, 100_000);
        assert.ok(peakMebibytes === undefined || peakMebibytes < memoryLimitMebibytes, `${peakMebibytes} MiB`);
      }));
  });
}
