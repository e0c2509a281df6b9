import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import { newId } from '../src/crypto/ids.ts';
import type { Deps } from '../src/deps.ts';
import { newSession, newUser } from './database.ts';
import { get, type Program } from './program.ts';
import { quickTimersVariable } from './twins/process-time.ts';
import { openDeps, prepareSurroundings, reasonForNoTwins, type Surroundings } from './twins/surroundings.ts';

const leaseSeconds = 120;
// More than one batch.
const rows = 250;

describe('four instances that start at the same moment', { skip: reasonForNoTwins }, () => {
  let surroundings: Surroundings;
  let programs: Program[];
  let deps: Deps;

  before(async () => {
    surroundings = await prepareSurroundings({ [quickTimersVariable]: 'on' });
    programs = await Promise.all(Array.from({ length: 4 }, () => surroundings.run()));
    // Not before: it would have made the tables.
    deps = await openDeps(surroundings);
  });
  after(async () => {
    await deps?.close();
    await surroundings?.close();
  });

  test('on an empty database all come up, on one set of tables, keys and roles', async () => {
    for (const program of programs) assert.equal((await get(program, '/health/ready')).body.status, 'ready');
    const migrations = await sql<{ name: string }>`select name from kysely_migration order by name`.execute(deps.db);
    const names = migrations.rows.map(({ name }) => name);
    assert.ok(names.length >= 2 && new Set(names).size === names.length, 'each migration ran once');
    const roles = await deps.db.selectFrom('roles').select('name').orderBy('name').execute();
    assert.deepEqual(
      roles.map(({ name }) => name),
      ['admin', 'user'],
    );
    const keys = await deps.db.selectFrom('signing_keys').select(['kid', 'state']).orderBy('state').execute();
    assert.deepEqual(
      keys.map(({ state }) => state),
      ['active', 'next'],
    );
    for (const program of programs) {
      const shown = (await get(program, '/.well-known/jwks.json')).body.keys.map(({ kid }: { kid: string }) => kid);
      assert.deepEqual(shown.sort(), keys.map(({ kid }) => kid).sort());
    }
  });

  test('one of them removes what has expired, and when it is killed another one does, after two minutes', async () => {
    await expireSessions();
    await until(() => sum(programs.map(removedBy)) > 0);
    const [worker] = programs.filter((program) => removedBy(program) > 0);
    assert.ok(worker);
    assert.equal(removedBy(worker), rows, 'the others look on');

    await worker.stop('SIGKILL');
    programs = programs.filter((program) => program !== worker);
    await expireSessions();
    // Time for the others to look a few times, and to find that the dead one still has its lease.
    await sleep(400);
    assert.equal(await sessionsLeft(), rows);
    surroundings.clock.advanceSeconds(leaseSeconds);
    await until(() => sum(programs.map(removedBy)) > 0);
    assert.deepEqual(programs.map(removedBy).sort(), [0, 0, rows]);
    assert.equal(await sessionsLeft(), 0);
  });

  async function expireSessions(): Promise<void> {
    const user = newUser();
    await deps.db.insertInto('users').values(user).execute();
    const sessions = Array.from({ length: rows }, () => ({ ...newSession(user.id), id: newId() }));
    await deps.db.insertInto('sessions').values(sessions).execute();
  }

  async function sessionsLeft(): Promise<number> {
    return (await deps.db.selectFrom('sessions').select('id').execute()).length;
  }
});

/** How many rows an instance says that it has removed. */
function removedBy(program: Program): number {
  return sum([...program.output().matchAll(/"removed":(\d+)/g)].map(([, count]) => Number(count)));
}

function sum(counts: readonly number[]): number {
  return counts.reduce((total, count) => total + count, 0);
}

async function until(condition: () => boolean): Promise<void> {
  const giveUpAtMs = performance.now() + 5_000;
  while (!condition()) {
    assert.ok(performance.now() < giveUpAtMs, 'it did not happen');
    await sleep(20);
  }
}
