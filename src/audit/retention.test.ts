import assert from 'node:assert/strict';
import { test } from 'node:test';
import { registerUser } from '../../test/accounts.ts';
import { assertIntact, sealAll, verifyTampered, verifyTrail } from '../../test/audit.ts';
import { call } from '../../test/client.ts';
import { newSecret } from '../../test/config.ts';
import { describeOnBackends, type System, startSystem } from '../../test/system.ts';
import { createKeyring } from '../crypto/secrets.ts';
import { createMaintenance } from '../maintenance/flow.ts';
import { recordEvent } from './flow.ts';
import { expireEventsAfter } from './retention.ts';

const daySeconds = 86_400;
const retentionDays = 30;

describeOnBackends('the retention of the audit trail', { AUDIT_RETENTION_DAYS: String(retentionDays) }, (system) => {
  /** Adds so many days, each with one seal of so many events. */
  async function addDays(days: number, eventsEach = 2): Promise<void> {
    for (let day = 0; day < days; day += 1) {
      for (let event = 0; event < eventsEach; event += 1) await addEvent(system());
      await sealAll(system().deps);
      system().clock.advanceSeconds(daySeconds);
    }
  }

  function addEvent({ deps: { db, clock } }: System, userId: string | null = null): Promise<void> {
    return recordEvent(
      db,
      { type: 'login.failed', userId, details: { method: 'password', attempt: 'compared' } },
      undefined,
      clock.now(),
    );
  }

  const seqs = async () => {
    const rows = await system().deps.db.selectFrom('audit_seals').select('seq').orderBy('seq').execute();
    return rows.map(({ seq }) => seq);
  };

  /** Takes everything away that was sealed so far. */
  async function expireEverything(): Promise<void> {
    await sealAll(system().deps);
    system().clock.advanceSeconds((retentionDays + 1) * daySeconds);
    await expireAll();
    await sealAll(system().deps);
  }

  async function expireAll(batch = 200): Promise<number> {
    const { deps, clock } = system();
    const expire = expireEventsAfter(deps, retentionDays);
    let removed = 0;
    for (let count = await expire(deps.db, clock.now(), batch); count > 0; ) {
      removed += count;
      count = await expire(deps.db, clock.now(), batch);
    }
    return removed;
  }

  test('the chores remove what is older than the days that are configured, and the rest verifies', async () => {
    await expireEverything();
    await addDays(5);
    const before = await seqs();
    system().clock.advanceSeconds((retentionDays - 3) * daySeconds + 3600);
    await createMaintenance(system().deps).runOnce();
    assert.deepEqual(await seqs(), before.slice(-2), 'of 35 days those before 30');
    const { removed } = await assertIntact(system().deps);
    assert.equal(removed?.throughSeal, before.at(-3));
    const heads = await verifyTrail(system().deps, { expected: { seq: before[0] ?? 0, digest: 'x'.repeat(43) } });
    assert.deepEqual([heads.findings, heads.isExpectationChecked], [[], false], 'a head that has gone is no proof');
  });

  test('what is removed goes in batches, and the chain verifies after each, as after a crash there', async () => {
    await expireEverything();
    await addDays(6, 3);
    system().clock.advanceSeconds(retentionDays * daySeconds);
    const { deps, clock } = system();
    const expire = expireEventsAfter(deps, retentionDays);
    const counts: number[] = [];
    for (let count = await expire(deps.db, clock.now(), 4); count > 0; ) {
      counts.push(count);
      await assertIntact(deps);
      count = await expire(deps.db, clock.now(), 4);
    }
    assert.deepEqual(counts.slice(-3), [6, 6, 3], 'whole seals of three events, never half of one');
  });

  test('a removal that fails half-way has removed nothing', async () => {
    await expireEverything();
    await addDays(2);
    system().clock.advanceSeconds(retentionDays * daySeconds);
    const { deps, clock } = system();
    const before = await seqs();
    const current = { ...deps.keyring.current, fingerprint: null as never };
    const expire = expireEventsAfter({ keyring: { ...deps.keyring, current } }, retentionDays);
    await assert.rejects(expire(deps.db, clock.now(), 200));
    assert.deepEqual(await seqs(), before);
    await assertIntact(deps);
    assert.ok((await expireAll()) > 0);
  });

  test('what the chain goes on with after everything was removed still verifies', async () => {
    await addDays(2);
    system().clock.advanceSeconds((retentionDays + 1) * daySeconds);
    await expireAll();
    assert.deepEqual(await seqs(), []);
    const empty = await assertIntact(system().deps);
    assert.deepEqual([empty.head, empty.events], [undefined, 0]);
    await sealAll(system().deps);
    const { head, removed } = await assertIntact(system().deps);
    assert.equal(head?.seq, (removed?.throughSeal ?? 0) + 1);
    const report = await verifyTrail(system().deps, { expected: head });
    assert.deepEqual(report.findings, []);
  });

  test('a blanked event that outlives the event of the deletion is still vouched for', async () => {
    const { deps, clock } = system();
    await expireEverything();
    const user = await registerUser(system());
    await addEvent(system(), user.id);
    const request = { method: 'DELETE', path: '/users/me', token: user.accessToken } as const;
    // Blanked after the deletion was sealed: as where there are many, or where two transactions overlap.
    await deps.db.insertInto('pending_erasures').values({ user_id: user.id, created_at: 0 }).execute();
    assert.equal((await call(system(), request)).status, 204);
    await sealAll(deps);
    clock.advanceSeconds(daySeconds);
    const details = { method: 'password', attempt: 'compared' };
    const origin = {
      clientAddress: '203.0.113.7',
      userAgent: null,
      requestId: 'late',
      signal: new AbortController().signal,
    };
    await recordEvent(deps.db, { type: 'login.failed', userId: user.id, details }, origin, clock.now());
    await sealAll(deps);
    await createMaintenance(deps).runOnce();
    assert.ok((await assertIntact(deps)).blankedEvents > 0);
    await sealAll(deps);
    const told = () => deps.db.selectFrom('audit_events').select('type').where('user_id', '=', user.id).execute();
    await deps.db.deleteFrom('audit_events').where('type', '=', 'user.erased').where('seal_seq', 'is', null).execute();
    clock.advanceSeconds((retentionDays - 1) * daySeconds + 3600);
    await expireAll();
    const types = (await told()).map(({ type }) => type).sort();
    assert.ok(!types.includes('user.deleted') && types.includes('user.erased'), types.join());
    assert.ok((await assertIntact(deps)).blankedEvents > 0);
  });

  test('an event from a clock that was far ahead goes with the old ones, and none goes before its time', async () => {
    const { clock } = system();
    await expireEverything();
    await addDays(1);
    clock.advanceSeconds(10 * 365 * daySeconds);
    await addEvent(system());
    await sealAll(system().deps);
    clock.advanceSeconds(-10 * 365 * daySeconds);
    const young = await seqs();
    await addDays(1);
    clock.advanceSeconds((retentionDays - 1) * daySeconds - 3600);
    await expireAll();
    assert.ok((await seqs()).includes(young.at(-1) ?? 0));
    clock.advanceSeconds(2 * daySeconds);
    await expireAll();
    assert.ok(!(await seqs()).includes(young.at(-1) ?? 0));
    await assertIntact(system().deps);
  });

  test('somebody else’s removal is found out, and one under a secret that is gone is in doubt until it is renewed', async () => {
    const { deps, clock } = system();
    await expireEverything();
    await addDays(3);
    const [first = 0] = await seqs();
    const faked = await verifyTampered(deps, async (tx) => {
      const seal = await tx.selectFrom('audit_seals').selectAll().where('seq', '=', first).executeTakeFirstOrThrow();
      await tx.deleteFrom('audit_seals').where('seq', '<=', first).execute();
      await tx.deleteFrom('audit_events').where('seal_seq', '<=', first).execute();
      const { digest, total_count } = seal;
      await tx.updateTable('audit_anchors').set({ seq: first, digest, total_count }).execute();
    });
    assert.deepEqual(
      faked.findings.map(({ fault }) => fault),
      ['anchor_forged'],
    );
    const hidden = await verifyTampered(deps, (tx) => tx.deleteFrom('audit_anchors').execute());
    assert.equal(hidden.findings[0]?.fault, 'seal_missing');
    const later = createKeyring([newSecret()]);
    const { removed } = await verifyTrail({ db: deps.db, keyring: later });
    assert.equal(removed?.isAuthentic, false);
    const rotated = { current: later.current, all: [later.current, ...deps.keyring.all] };
    await expireEventsAfter({ keyring: rotated }, 0)(deps.db, clock.now(), 200);
    assert.equal((await verifyTrail({ db: deps.db, keyring: later })).removed?.isAuthentic, true);
    await expireEventsAfter({ keyring: { current: deps.keyring.current, all: rotated.all } }, 0)(
      deps.db,
      clock.now(),
      1,
    );
    await assertIntact(deps);
  });
});

test('0 days keeps events for ever', async () => {
  const system = await startSystem('sqlite+memory', { AUDIT_RETENTION_DAYS: '0' });
  try {
    await registerUser(system);
    const sealed = await sealAll(system.deps);
    system.clock.advanceSeconds(100 * 365 * daySeconds);
    await createMaintenance(system.deps).runOnce();
    assert.equal((await verifyTrail(system.deps)).events, sealed);
  } finally {
    await system.close();
  }
});
