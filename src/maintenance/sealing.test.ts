import assert from 'node:assert/strict';
import { test } from 'node:test';
import { logIn, readMe, registerUser } from '../../test/accounts.ts';
import { assertIntact, verifyTrail } from '../../test/audit.ts';
import { inParallel } from '../../test/races/races.ts';
import { describeOnBackends, startPeer, startSystem } from '../../test/system.ts';
import { recordEvent } from '../audit/flow.ts';
import { sealNextBatch } from '../audit/sealing.ts';
import { newId } from '../crypto/ids.ts';
import { isUniqueViolation } from '../db/failures.ts';
import { createSealer } from './sealing.ts';

const leaseSeconds = 20;

describeOnBackends('the sealer of the audit trail', {}, (system, backend) => {
  /** Adds events as an older version or many requests have left them. */
  async function addEvents(count: number): Promise<void> {
    const rows = Array.from({ length: count }, (_, index) => ({
      id: newId(),
      type: 'login.failed',
      occurred_at: index,
      client_address: '203.0.113.7',
      user_agent: index % 2 === 0 ? null : 'ein Gerät "mit" \\ Zeichen',
      details: '{"method":"password"}',
    }));
    for (let at = 0; at < rows.length; at += 500) {
      await system()
        .deps.db.insertInto('audit_events')
        .values(rows.slice(at, at + 500))
        .execute();
    }
  }

  /** Seals everything for sure: the turn of a test before may still hold the lease. */
  async function sealEverything(): Promise<void> {
    system().clock.advanceSeconds(leaseSeconds);
    const sealer = createSealer(system().deps);
    while ((await sealer.runOnce()) !== 0);
  }

  test('seals what waits, in the order in which it was written, and what comes later in the next turn', async () => {
    const user = await registerUser(system());
    const sealer = createSealer(system().deps);
    assert.equal(await sealer.runOnce(), 2, 'the code and the registration');
    assert.equal(await sealer.runOnce(), 0);
    await logIn(system(), user.email, 'not the password');
    assert.equal((await assertIntact(system().deps)).unsealed.count, 1);
    assert.equal(await sealer.runOnce(), 1);
    const { seals, events, unsealed } = await assertIntact(system().deps);
    assert.deepEqual([seals, events, unsealed], [2, 3, { count: 0, oldestAtMs: null }]);
  });

  test('writes nothing while nothing happens', async () => {
    await sealEverything();
    const read = () => system().deps.db.selectFrom('leases').selectAll().execute();
    const before = await read();
    system().clock.advanceSeconds(60);
    assert.equal(await createSealer(system().deps).runOnce(), 0);
    assert.deepEqual(await read(), before);
  });

  test('leaves the work to the instance that has begun, until that one is silent', async () => {
    await sealEverything();
    system().clock.advanceSeconds(leaseSeconds);
    await addEvents(1);
    assert.equal(await createSealer(system().deps).runOnce(), 1);
    await addEvents(1);
    const other = createSealer(system().deps);
    assert.equal(await other.runOnce(), undefined);
    system().clock.advanceSeconds(leaseSeconds);
    assert.equal(await other.runOnce(), 1);
  });

  test('an event that commits late is sealed later, though its id is older', async () => {
    const { deps, clock } = system();
    const early = newId();
    await addEvents(3);
    await sealEverything();
    const row = { id: early, type: 'login.failed', occurred_at: clock.now(), details: '{}' };
    await deps.db.insertInto('audit_events').values(row).execute();
    await sealEverything();
    assert.equal((await assertIntact(deps)).unsealed.count, 0);
  });

  test('a clock that is set back breaks nothing', async () => {
    const { deps, clock } = system();
    await addEvents(2);
    await sealEverything();
    clock.advanceSeconds(-86_400);
    await addEvents(2);
    assert.equal(await sealNextBatch(deps), 2);
    clock.advanceSeconds(86_400);
    await assertIntact(deps);
  });

  test('a seal that fails half-way leaves the events as they were, and the next turn seals them', async () => {
    const { deps } = system();
    await sealEverything();
    const before = await assertIntact(deps);
    await addEvents(3);
    const clock = {
      now() {
        throw new Error('the process dies here');
      },
    };
    await assert.rejects(sealNextBatch({ ...deps, clock }), /dies here/);
    const unfit = {
      ...deps,
      keyring: { ...deps.keyring, current: { ...deps.keyring.current, fingerprint: null as never } },
    };
    await assert.rejects(sealNextBatch(unfit), 'the database refuses the seal after the events were held');
    assert.deepEqual((await verifyTrail(deps)).unsealed.count, 3);
    await sealEverything();
    const after = await assertIntact(deps);
    assert.deepEqual([after.seals, after.events], [before.seals + 1, before.events + 3]);
  });

  test('a backlog of an older version is sealed in batches, while requests are answered', async () => {
    await sealEverything();
    const user = await registerUser(system());
    await addEvents(5_000);
    const timeRequest = async () => {
      await new Promise((resolve) => setImmediate(resolve));
      const startedAt = performance.now();
      assert.equal((await readMe(system(), user.accessToken)).status, 200);
      return performance.now() - startedAt;
    };
    const before: number[] = [];
    for (let request = 0; request < 50; request += 1) before.push(await timeRequest());
    const sealer = createSealer(system().deps);
    let isDone = false;
    const sealing = sealer.runOnce().finally(() => {
      isDone = true;
    });
    const times: number[] = [];
    while (!isDone) times.push(await timeRequest());
    assert.equal(await sealing, 5_002);
    assert.ok(times.length >= 20, `only ${times.length} requests were answered meanwhile`);
    const p99 = times.sort((one, other) => one - other)[Math.floor(times.length * 0.99)] ?? 0;
    // A machine that has other work to do is slow without us too.
    const allowed = Math.max(250, 5 * Math.max(...before));
    assert.ok(p99 < allowed, `a request took ${p99} ms meanwhile`);
    await assertIntact(system().deps);
  });

  test('two that seal at once, under writers, leave no gap, seal nothing twice and nothing never', async () => {
    const { deps } = system();
    await sealEverything();
    // SQLite is for one instance, but two sealers meet there as well.
    const peer = backend === 'postgres+redis' ? await startPeer(system()) : undefined;
    let isWriting = true;
    const write = async () => {
      for (let event = 0; event < 25; event += 1) {
        await deps.db.transaction().execute(async (tx) => {
          const details = { method: 'password', attempt: 'compared' };
          await recordEvent(tx, { type: 'login.failed', userId: null, details }, undefined, deps.clock.now());
          // Others commit and are sealed before this one.
          await new Promise((resolve) => setImmediate(resolve));
        });
      }
    };
    const seal = async (own: typeof deps) => {
      while (isWriting) {
        // Without the lease, which would keep them apart.
        await sealNextBatch(own).catch((error: unknown) => assert.ok(isUniqueViolation(error), String(error)));
        await new Promise((resolve) => setImmediate(resolve));
      }
    };
    const sealing = [seal(deps), seal(peer?.deps ?? deps)];
    await inParallel(8, write).finally(() => {
      isWriting = false;
    });
    await Promise.all(sealing);
    await sealEverything();
    const report = await assertIntact(deps);
    assert.equal(report.unsealed.count, 0);
    const { total } = await deps.db
      .selectFrom('audit_seals')
      .select(({ fn }) => fn.sum<number>('event_count').as('total'))
      .executeTakeFirstOrThrow();
    assert.equal(Number(total), report.events);
    await peer?.close();
  });

  test('writes the newest seal to the log when it starts', async () => {
    const { deps } = system();
    await sealEverything();
    const lines: unknown[] = [];
    const log = {
      ...deps.log,
      info: (line: unknown) => void lines.push(line),
      error: (line: unknown) => void lines.push(line),
    };
    const sealer = createSealer({ ...deps, log: log as unknown as typeof deps.log });
    await sealer.tellHead();
    await sealer.tellHead();
    const { head } = await assertIntact(deps);
    assert.deepEqual(lines, [{ audit_head: `${head?.seq}:${head?.digest}` }], 'and not again for an hour');
  });
});

test('a service on which nothing was sealed yet has no newest seal to tell of', async () => {
  const system = await startSystem('sqlite+memory');
  try {
    const report = await verifyTrail(system.deps);
    assert.deepEqual([report.head, report.seals, report.findings], [undefined, 0, []]);
    await createSealer(system.deps).tellHead();
  } finally {
    await system.close();
  }
});
