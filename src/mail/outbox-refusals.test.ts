import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { sql } from 'kysely';
import { inWorld, newMail, newRefusal, openPost, readRows, readTries } from '../../test/outbox.ts';
import { backends } from '../../test/system.ts';
import type { Database } from '../db/database.ts';

const threeDaysMs = 3 * 86_400_000;

for (const backend of backends) {
  describe(`a mail that is refused (${backend})`, () => {
    test('for good is tried three times within ten minutes and given up with its id and the reply code', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport, events } = openPost(world);
        const refusal = newRefusal('recipient', 550);
        transport.refuse = () => refusal;
        await outbox.enqueue(world.db, newMail(world, { expiresAtMs: world.clock.now() + threeDaysMs }));
        const id = (await readRows(world.db))[0]?.id;
        for (const tries of [1, 2]) {
          await outbox.deliverDue();
          assert.deepEqual(await readTries(world.db, world.clock.now()), [{ attempts: tries, inSeconds: 300 }]);
          world.clock.advanceSeconds(300);
        }
        await outbox.deliverDue();
        assert.deepEqual(await readRows(world.db), []);
        assert.equal(transport.attempts, 3);
        assert.deepEqual(events.at(-1), { type: 'given_up', id, attempts: 3, error: refusal });
      }));

    test('for what the operator can mend is never given up, but tried less and less often', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport, events } = openPost(world);
        transport.refuse = () => newRefusal('policy', 554);
        await outbox.enqueue(world.db, newMail(world, { expiresAtMs: world.clock.now() + threeDaysMs }));
        for (const inSeconds of [300, 600, 1200, 2400, 3600, 3600]) {
          await outbox.deliverDue();
          assert.equal((await readTries(world.db, world.clock.now()))[0]?.inSeconds, inSeconds);
          world.clock.advanceSeconds(inSeconds);
        }
        transport.refuse = () => undefined;
        await outbox.deliverDue();
        assert.equal(transport.sent.length, 1);
        assert.ok(events.every(({ type }) => type === 'postponed'));
      }));

    test('is spread over a quarter more than its pause, so that what failed together is not tried together', () =>
      inWorld(backend, async (world) => {
        for (const [random, inSeconds] of [
          [0, 2],
          [0.5, 2.25],
          [0.999, 2.5],
        ] as const) {
          const { outbox, transport } = openPost(world, () => random);
          transport.refuse = () => newRefusal('mail', 450);
          await outbox.enqueue(world.db, newMail(world));
          await outbox.deliverDue();
          assert.equal((await readTries(world.db, world.clock.now()))[0]?.inSeconds, inSeconds);
          await world.db.deleteFrom('outbox').execute();
        }
      }));
  });

  describe(`a mail that was accepted (${backend})`, () => {
    test('and whose row cannot be removed is not sent again when its lease is over, and its row goes at last', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport, events } = openPost(world);
        await outbox.enqueue(world.db, newMail(world));
        const allowDeletions = await forbidDeletions(world.database);
        await outbox.deliverDue();
        assert.equal(transport.sent.length, 1);
        for (let turn = 0; turn < 3; turn += 1) {
          world.clock.advanceSeconds(120);
          await assert.rejects(outbox.deliverDue(), /kept/);
        }
        await allowDeletions();
        await outbox.enqueue(world.db, newMail(world, { to: 'next@example.com' }));
        await outbox.deliverDue();
        assert.deepEqual(
          transport.sent.map(({ to }) => to),
          ['user@example.com', 'next@example.com'],
        );
        assert.deepEqual(await readRows(world.db), []);
        assert.deepEqual(
          events.map(({ type }) => type),
          ['outbox_unreachable'],
        );
      }));

    test('and whose row could not be removed is removed when the outbox closes', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport } = openPost(world);
        await outbox.enqueue(world.db, newMail(world));
        const allowDeletions = await forbidDeletions(world.database);
        await outbox.deliverDue();
        await allowDeletions();
        await outbox.close();
        assert.equal(transport.sent.length, 1);
        assert.deepEqual(await readRows(world.db), []);
      }));

    test('and is tried again after a crash has the id that it had', () =>
      inWorld(backend, async (world) => {
        const [crashing, next] = [openPost(world), openPost(world)];
        await crashing.outbox.enqueue(world.db, newMail(world));
        await forbidDeletions(world.database);
        await crashing.outbox.deliverDue();
        world.clock.advanceSeconds(120);
        await next.outbox.deliverDue();
        const [first, repetition] = [...crashing.transport.sent, ...next.transport.sent];
        assert.ok(first?.id);
        assert.equal(repetition?.id, first.id);
      }));
  });
}

/** Lets every deletion fail, as with a database that goes away between two statements. Returns what ends it. */
async function forbidDeletions({ db, dialect }: Database): Promise<() => Promise<void>> {
  if (dialect === 'sqlite') {
    await sql`create trigger keep before delete on outbox begin select raise(abort, 'kept'); end`.execute(db);
    return async () => void (await sql`drop trigger keep`.execute(db));
  }
  await sql`create function keep() returns trigger language plpgsql as 'begin raise exception ''kept''; end'`.execute(
    db,
  );
  await sql`create trigger keep before delete on outbox execute function keep()`.execute(db);
  return async () => void (await sql`drop trigger keep on outbox`.execute(db));
}
