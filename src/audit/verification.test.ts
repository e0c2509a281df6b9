import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { logIn, openSession, registerUser, type TestUser } from '../../test/accounts.ts';
import { assertIntact, sealAll, verifyTampered, verifyTrail } from '../../test/audit.ts';
import { call } from '../../test/client.ts';
import { newSecret } from '../../test/config.ts';
import { describeOnBackends, type System } from '../../test/system.ts';
import { newId } from '../crypto/ids.ts';
import { createKeyring, hmacSha256 } from '../crypto/secrets.ts';
import type { AuditSealRow, Db } from '../db/schema.ts';
import type { RequestContext } from '../request-context.ts';
import { authenticateSeal, digestSeal } from './chain.ts';
import type { AuditFault } from './findings.ts';
import { recordEvent } from './flow.ts';
import { findChainHead } from './sealing.ts';

const deleteUser = ({ accessToken: token }: TestUser) => ({ method: 'DELETE', path: '/users/me', token }) as const;

/** A chain of five seals, each with the events of a registration and two logins. */
async function makeChain(system: System): Promise<TestUser[]> {
  const users: TestUser[] = [];
  for (let seal = 1; seal <= 5; seal += 1) {
    const user = await registerUser(system);
    await logIn(system, user.email, 'not the password');
    await openSession(system, user);
    await sealAll(system.deps);
    system.clock.advanceSeconds(5);
    users.push(user);
  }
  return users;
}

async function readSeal(tx: Db, seq: number): Promise<AuditSealRow> {
  return tx.selectFrom('audit_seals').selectAll().where('seq', '=', seq).executeTakeFirstOrThrow();
}

describeOnBackends('a verification of the audit trail', {}, (system) => {
  let users: TestUser[] = [];
  /** An event in the third seal, with everything that an event can have. */
  let eventId = '';

  before(async () => {
    users = await makeChain(system());
    const query = system().deps.db.selectFrom('audit_events').select('id').where('seal_seq', '=', 3);
    eventId = (await query.where('type', '=', 'login.succeeded').executeTakeFirstOrThrow()).id;
  });

  test('finds nothing in a chain that nobody touched, and says how much it read', async () => {
    const report = await assertIntact(system().deps);
    const { db } = system().deps;
    const { count } = await db
      .selectFrom('audit_events')
      .select(({ fn }) => fn.countAll<number>().as('count'))
      .executeTakeFirstOrThrow();
    assert.deepEqual([report.seals, report.events, report.unsealed.count], [5, count, 0]);
    assert.deepEqual(report.head?.seq, 5);
  });

  type Tampering = [what: string, tamper: (tx: Db) => Promise<unknown>, fault: AuditFault, isNamed: boolean];
  const update = (tx: Db, columns: object) =>
    tx.updateTable('audit_events').set(columns).where('id', '=', eventId).execute();
  const blank = { client_address: null, user_agent: null, details: '{}' };
  const unsalted = { seal_origin_salt: null, seal_details_salt: null };
  const updateSeal = (tx: Db, columns: Partial<AuditSealRow>) =>
    tx.updateTable('audit_seals').set(columns).where('seq', '=', 3).execute();
  const tamperings: Tampering[] = [
    ['the type of an event', (tx) => update(tx, { type: 'user.updated' }), 'event_changed', true],
    ['the time of an event', (tx) => update(tx, { occurred_at: 1 }), 'event_changed', true],
    ['the actor of an event', (tx) => update(tx, { actor_id: null }), 'event_changed', true],
    ['the subject of an event', (tx) => update(tx, { user_id: users[0]?.id }), 'event_changed', true],
    ['the request of an event', (tx) => update(tx, { request_id: newId() }), 'event_changed', true],
    ['the address of an event', (tx) => update(tx, { client_address: '192.0.2.1' }), 'event_changed', true],
    ['the user agent of an event', (tx) => update(tx, { user_agent: 'another' }), 'event_changed', true],
    ['the details of an event', (tx) => update(tx, { details: '{"method":"code"}' }), 'event_changed', true],
    ['the salt of an event', (tx) => update(tx, { seal_origin_salt: 'another' }), 'event_changed', true],
    ['the commitment of an event', (tx) => update(tx, { seal_details_commitment: 'another' }), 'event_changed', true],
    ['an event taken out of its seal', (tx) => update(tx, { seal_seq: null }), 'event_changed', true],
    ['an event moved to another seal', (tx) => update(tx, { seal_seq: 4 }), 'event_changed', true],
    ['an event whose salt alone is gone', (tx) => update(tx, { seal_origin_salt: null }), 'event_changed', true],
    ['an event blanked in front of our eyes', (tx) => update(tx, blank), 'event_blanked', true],
    [
      'an event blanked as a deletion would, without one',
      (tx) => update(tx, { ...blank, ...unsalted }),
      'event_blanked',
      true,
    ],
    [
      'an event blanked with a made-up deletion of a user who is still there',
      async (tx) => {
        await update(tx, { ...blank, ...unsalted });
        const event = { type: 'user.deleted', userId: users[2]?.id ?? '', details: {} } as const;
        await recordEvent(tx, event, undefined, 1);
      },
      'event_blanked',
      true,
    ],
    [
      'an event that is missing',
      (tx) => tx.deleteFrom('audit_events').where('id', '=', eventId).execute(),
      'event_missing',
      true,
    ],
    ['a changed seal', (tx) => updateSeal(tx, { sealed_at: 1 }), 'seal_changed', false],
    ['a changed list of events', (tx) => updateSeal(tx, { manifest: '[]' }), 'seal_changed', false],
    ['a list of events that is none', (tx) => updateSeal(tx, { manifest: 'x' }), 'seal_changed', false],
    ['a changed MAC', (tx) => updateSeal(tx, { mac: 'another' }), 'seal_forged', false],
    [
      'a seal that is missing in the middle',
      (tx) => tx.deleteFrom('audit_seals').where('seq', '=', 3).execute(),
      'seal_missing',
      false,
    ],
    [
      'a seal that is missing with its events',
      async (tx) => {
        await tx.deleteFrom('audit_seals').where('seq', '=', 3).execute();
        await tx.deleteFrom('audit_events').where('seal_seq', '=', 3).execute();
      },
      'seal_missing',
      false,
    ],
    [
      'two seals that have changed places',
      async (tx) => {
        for (const [from, to] of [
          [3, 99],
          [4, 3],
          [99, 4],
        ] as const) {
          await tx.updateTable('audit_seals').set({ seq: to }).where('seq', '=', from).execute();
          await tx.updateTable('audit_events').set({ seal_seq: to }).where('seal_seq', '=', from).execute();
        }
      },
      'seal_out_of_order',
      false,
    ],
    ['a seal made anew without the secret', (tx) => forge(tx, 3), 'seal_forged', false],
    ['all the newest seals made anew without the secret', forgeFromThird, 'seal_forged', false],
  ];

  /** Makes a seal right by itself, as somebody can who has the database and the source, but no secret. */
  async function forge(tx: Db, seq: number, key_fingerprint?: string): Promise<void> {
    const seal = await readSeal(tx, seq);
    const changed = { ...seal, sealed_at: 1, ...(key_fingerprint === undefined ? {} : { key_fingerprint }) };
    const digest = digestSeal(changed);
    await tx
      .updateTable('audit_seals')
      .set({ ...changed, digest })
      .where('seq', '=', seq)
      .execute();
    await tx
      .updateTable('audit_seals')
      .set({ previous_digest: digest })
      .where('seq', '=', seq + 1)
      .execute();
  }

  /** Makes the third seal and all after it right again, so that only the MACs are wrong. */
  async function forgeFromThird(tx: Db): Promise<void> {
    const seals = await tx.selectFrom('audit_seals').selectAll().where('seq', '>=', 3).orderBy('seq').execute();
    let { previous_digest } = await readSeal(tx, 3);
    for (const seal of seals) {
      const changed = { ...seal, sealed_at: seal.sealed_at + 1, previous_digest };
      previous_digest = digestSeal(changed);
      const columns = { ...changed, digest: previous_digest };
      await tx.updateTable('audit_seals').set(columns).where('seq', '=', seal.seq).execute();
    }
  }

  for (const [what, tamper, fault, isNamed] of tamperings) {
    test(`finds ${what}`, async () => {
      const { findings } = await verifyTampered(system().deps, tamper);
      const [first] = findings;
      assert.deepEqual([first?.fault, first?.seal], [fault, 3], JSON.stringify(findings));
      if (isNamed) assert.equal(first?.eventId, eventId);
    });
  }

  test('finds an event that was added to a sealed batch, or that says it is in a seal that is not there', async () => {
    for (const seal of [3, 6, 0, -1]) {
      const id = newId();
      const { findings } = await verifyTampered(system().deps, (tx) =>
        tx
          .insertInto('audit_events')
          .values({
            id,
            type: 'login.failed',
            occurred_at: 1,
            details: '{}',
            seal_seq: seal,
            seal_origin_commitment: 'x',
          })
          .execute(),
      );
      assert.deepEqual(
        findings.map((finding) => [finding.fault, finding.seal, finding.eventId]),
        [['event_added', seal, id]],
      );
    }
  });

  test('names the first twenty faults and counts the rest', async () => {
    const { findings, moreFindings, events } = await verifyTampered(system().deps, (tx) =>
      tx.updateTable('audit_events').set({ occurred_at: 1 }).execute(),
    );
    assert.deepEqual([findings.length, findings.length + moreFindings], [20, events]);
    assert.equal(findings[0]?.seal, 1);
  });

  test('cannot see from within that the newest seals were cut off, and sees it with a noted head', async () => {
    const head = await findChainHead(system().deps);
    assert.ok(head);
    const cutOff = async (tx: Db) => {
      await tx.deleteFrom('audit_seals').where('seq', '>', 3).execute();
      await tx.deleteFrom('audit_events').where('seal_seq', '>', 3).execute();
    };
    assert.deepEqual((await verifyTampered(system().deps, cutOff)).findings, []);
    const { findings } = await verifyTampered(system().deps, cutOff, { expected: head });
    assert.deepEqual(
      findings.map(({ fault, seal }) => [fault, seal]),
      [['head_unexpected', head.seq]],
    );
    const all = (tx: Db) =>
      tx
        .deleteFrom('audit_seals')
        .execute()
        .then(() => tx.deleteFrom('audit_events').execute());
    assert.deepEqual((await verifyTampered(system().deps, all)).findings, []);
    const emptied = await verifyTampered(system().deps, all, { expected: head });
    assert.equal(emptied.findings[0]?.fault, 'head_unexpected');
  });

  test('is content with every noted head that is still there, and not with one that never was', async () => {
    const { db } = system().deps;
    for (const { seq, digest } of await db.selectFrom('audit_seals').select(['seq', 'digest']).execute()) {
      const report = await verifyTrail(system().deps, { expected: { seq, digest } });
      assert.deepEqual([report.findings, report.isExpectationChecked], [[], true]);
      const other = await verifyTrail(system().deps, { expected: { seq, digest: digest.toLowerCase() } });
      assert.deepEqual(other.findings[0]?.fault, 'head_unexpected');
    }
  });

  test('says of seals whose secret is gone that nothing vouches for them, until a later seal or a noted head does', async () => {
    const { db, keyring } = system().deps;
    const later = createKeyring([newSecret()]);
    const without = await verifyTrail({ db, keyring: later });
    assert.deepEqual([without.findings, without.unauthenticated], [[], { fromSeal: 1, throughSeal: 5 }]);
    const expected = await findChainHead({ db, keyring });
    const noted = await verifyTrail({ db, keyring: { all: [] } }, { expected });
    assert.deepEqual([noted.unauthenticated, noted.vouchedSeals], [undefined, 5]);
    await registerUser(system());
    await sealAll({ ...system().deps, keyring: { current: later.current, all: [later.current, ...keyring.all] } });
    const vouched = await verifyTrail({ db, keyring: later });
    assert.deepEqual([vouched.findings, vouched.unauthenticated, vouched.vouchedSeals], [[], undefined, 5]);
    const both = { all: [...later.all, ...keyring.all] };
    assert.equal((await verifyTrail({ db, keyring: both })).vouchedSeals, 0);
    const taken = await verifyTampered({ db, keyring: later as typeof keyring }, (tx) => forge(tx, 3));
    assert.equal(taken.findings[0]?.fault, 'seal_changed', 'the chain is checked without the secret too');
    const remade = await verifyTampered({ db, keyring: later as typeof keyring }, forgeFromThird);
    assert.deepEqual([remade.findings[0]?.fault, remade.findings[0]?.seal], ['seal_forged', 6]);
    const { unauthenticated } = await verifyTrail({ db, keyring });
    assert.deepEqual(unauthenticated, { fromSeal: 6, throughSeal: 6 });
  });

  test('finds a seal that names a secret which was never there as soon as a genuine one follows it', async () => {
    const { deps } = system();
    const { findings } = await verifyTampered(deps, (tx) => forge(tx, 3, '0123456789abcdef'));
    // The next one was made after the true third: its own digest fits no longer.
    assert.deepEqual([findings[0]?.fault, findings[0]?.seal], ['seal_changed', 4]);
  });

  test('a deletion blanks sealed events and leaves the chain intact, also before the deletion is sealed', async () => {
    const user = users[1];
    assert.ok(user);
    const session = await openSession(system(), user);
    assert.equal((await call(system(), deleteUser(session))).status, 204);
    const both = { db: system().deps.db, keyring: { all: system().deps.keyring.all } };
    const before = await verifyTrail(both);
    assert.ok(before.blankedEvents >= 3);
    assert.deepEqual(before.findings, []);
    await sealAll(system().deps);
    const after = await verifyTrail(both);
    assert.deepEqual([after.findings, after.blankedEvents], [[], before.blankedEvents]);
  });

  test('no salt is left of what was blanked, so that nobody can try addresses', async () => {
    const query = system().deps.db.selectFrom('audit_events').select(['seal_origin_salt', 'seal_details_salt', 'type']);
    const events = await query
      .where('user_id', '=', users[1]?.id ?? '')
      .where('seal_seq', '<=', 5)
      .execute();
    assert.ok(events.length > 0);
    assert.deepEqual(
      new Set(events.flatMap((event) => [event.seal_origin_salt, event.seal_details_salt])),
      new Set([null]),
    );
  });

  test('of the acts of a deleted administrator on others goes where they came from, and what was done stays', async () => {
    const { db } = system().deps;
    const [actor, subject] = [await registerUser(system()), await registerUser(system())];
    const details = { fields: 'name', by: 'administrator' } as const;
    const event = { type: 'user.updated', userId: subject.id, actorId: actor.id, details } as const;
    const context = { clientAddress: '192.0.2.7', userAgent: 'theirs', requestId: newId() } as RequestContext;
    await recordEvent(db, event, context, system().clock.now());
    await sealAll(system().deps);
    assert.equal((await call(system(), deleteUser(actor))).status, 204);
    const acts = db.selectFrom('audit_events').selectAll().where('user_id', '=', subject.id);
    const [act] = await acts.where('actor_id', '=', actor.id).execute();
    assert.deepEqual([act?.client_address, act?.user_agent, act?.seal_origin_salt], [null, null, null]);
    assert.deepEqual([JSON.parse(act?.details ?? ''), act?.seal_details_salt !== null], [details, true]);
    assert.deepEqual((await verifyTrail(system().deps)).findings, []);
    const tampered = await verifyTampered(system().deps, (tx) =>
      tx
        .updateTable('audit_events')
        .set({ details: '{}', seal_details_salt: null })
        .where('id', '=', act?.id ?? '')
        .execute(),
    );
    assert.deepEqual(
      tampered.findings.map(({ fault, eventId }) => [fault, eventId]),
      [['event_blanked', act?.id]],
    );
  });

  test('an event that was blanked before it was sealed is like any other', async () => {
    const user = await registerUser(system());
    assert.equal((await call(system(), deleteUser(user))).status, 204);
    await sealAll(system().deps);
    const { findings } = await verifyTrail(system().deps);
    assert.deepEqual(findings, []);
  });

  test('the MAC of a seal is under a key of its own', async () => {
    const { db, keyring } = system().deps;
    const seal = await db.transaction().execute((tx) => readSeal(tx, 1));
    assert.equal(authenticateSeal(keyring, seal), 'genuine');
    const mac = hmacSha256(keyring.current.key('seal'), ['seal', seal.digest]);
    assert.equal(authenticateSeal(keyring, { ...seal, mac }), 'forged');
  });
});
