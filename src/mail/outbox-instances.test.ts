import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { inWorld, newMail, openPost, type Post, readRows } from '../../test/outbox.ts';
import { backends } from '../../test/system.ts';
import { until } from '../../test/until.ts';
import { inTransaction, openDatabase } from '../db/database.ts';
import { claimDueRows } from './store.ts';

for (const backend of backends) {
  describe(`the outbox (${backend})`, () => {
    test('two instances deliver each of 200 mails exactly once between them', () =>
      inWorld(backend, async (world) => {
        // SQLite has one process; there the two share its connection.
        const other = backend === 'sqlite+memory' ? world.database : await openDatabase(world.url, () => {});
        const [one, two] = [openPost(world), openPost({ ...world, db: other.db })];
        const recipients = Array.from({ length: 200 }, (_, index) => `user-${index}@example.com`);
        await inTransaction(world.db, async (tx) => {
          for (const to of recipients) await one.outbox.enqueue(tx, newMail(world, { to }));
        });
        const drain = async ({ outbox }: Post) => {
          while ((await readRows(world.db)).length > 0) {
            await outbox.deliverDue();
            await new Promise((resolve) => setImmediate(resolve));
          }
        };
        await Promise.all([drain(one), drain(two)]);
        const sent = [...one.transport.sent, ...two.transport.sent].map(({ to }) => to);
        assert.deepEqual(sent.sort(), recipients.sort());
        if (other !== world.database) await other.close();
      }));

    test('a mail that a dead process had claimed is delivered by another when the lease is over', () =>
      inWorld(backend, async (world) => {
        const [dead, alive] = [openPost(world), openPost(world)];
        dead.transport.hangs = () => true;
        await dead.outbox.enqueue(world.db, newMail(world));
        void dead.outbox.deliverDue();
        while (dead.transport.attempts === 0) await new Promise((resolve) => setImmediate(resolve));
        world.clock.advanceSeconds(119.999);
        await alive.outbox.deliverDue();
        assert.deepEqual(alive.transport.sent, []);
        world.clock.advanceSeconds(0.001);
        await alive.outbox.deliverDue();
        assert.equal(alive.transport.sent.length, 1);
        assert.deepEqual(await readRows(world.db), []);
      }));

    test('parallel calls deliver once, and what arrives meanwhile is delivered too', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport } = openPost(world);
        await outbox.enqueue(world.db, newMail(world, { to: 'first@example.com' }));
        const under = Array.from({ length: 10 }, () => outbox.deliverDue());
        await outbox.enqueue(world.db, newMail(world, { to: 'second@example.com' }));
        await Promise.all([...under, outbox.deliverDue()]);
        assert.deepEqual(transport.sent.map(({ to }) => to).sort(), ['first@example.com', 'second@example.com']);
      }));

    test('slow recipients hold up nobody else, as long as there is a place', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport } = openPost(world);
        transport.hangs = ({ to }) => to.startsWith('slow');
        const quick = Array.from({ length: 30 }, (_, index) => `quick-${index}@example.com`);
        for (let index = 0; index < 9; index += 1) {
          await outbox.enqueue(world.db, newMail(world, { to: `slow-${index}@example.com` }));
        }
        for (const to of quick) await outbox.enqueue(world.db, newMail(world, { to }));
        outbox.wake();
        await until(() => transport.sent.length === quick.length);
        assert.deepEqual(transport.sent.map(({ to }) => to).sort(), quick.sort());
        assert.equal(transport.underWay, 9);
      }));

    test('ten are under way at most, and the others stay free for another instance', () =>
      inWorld(backend, async (world) => {
        const [busy, other] = [openPost(world), openPost(world)];
        busy.transport.hangs = () => true;
        for (let index = 0; index < 25; index += 1) await busy.outbox.enqueue(world.db, newMail(world));
        busy.outbox.wake();
        await until(() => busy.transport.underWay === 10);
        await other.outbox.deliverDue();
        assert.equal(other.transport.sent.length, 15);
        assert.equal(busy.transport.attempts, 10);
      }));

    test('closing gives back what hangs, and another instance delivers it at once', () =>
      inWorld(backend, async (world) => {
        const [stuck, other] = [openPost(world), openPost(world)];
        stuck.transport.hangs = () => true;
        await stuck.outbox.enqueue(world.db, newMail(world));
        stuck.outbox.wake();
        await until(() => stuck.transport.underWay === 1);
        await other.outbox.deliverDue();
        assert.deepEqual(other.transport.sent, [], 'the lease is held');
        const startedAtMs = performance.now();
        await stuck.outbox.close();
        assert.ok(performance.now() - startedAtMs < 3_000, 'closing must not wait for what hangs');
        await other.outbox.deliverDue();
        assert.equal(other.transport.sent.length, 1);
        assert.deepEqual(stuck.events, []);
      }));
  });
}

describe('the outbox (postgres+redis)', { skip: !backends.includes('postgres+redis') }, () => {
  test('an instance passes over the mails that another is claiming at this moment and waits for none of them', () =>
    inWorld('postgres+redis', async (world) => {
      const [one, two] = [openPost(world), openPost(world)];
      for (const to of ['a@example.com', 'b@example.com', 'c@example.com']) {
        await one.outbox.enqueue(world.db, newMail(world, { to }));
        world.clock.advanceSeconds(1);
      }
      await inTransaction(world.db, async (tx) => {
        const claimed = await claimDueRows(tx, { nowMs: world.clock.now(), leaseUntilMs: 2 ** 50, batch: 2 });
        assert.equal(claimed.length, 2);
        await two.outbox.deliverDue();
      });
      assert.deepEqual(
        two.transport.sent.map(({ to }) => to),
        ['c@example.com'],
      );
    }));

  test('a claim is never of more mails than were asked for', () =>
    inWorld('postgres+redis', async (world) => {
      const { outbox } = openPost(world);
      for (let index = 0; index < 300; index += 1) await outbox.enqueue(world.db, newMail(world));
      const claim = { nowMs: world.clock.now(), leaseUntilMs: world.clock.now() + 1, batch: 7 };
      const claims = await Promise.all(Array.from({ length: 8 }, () => claimDueRows(world.db, claim)));
      assert.deepEqual(
        claims.map((rows) => rows.length),
        Array(8).fill(7),
      );
      assert.equal(new Set(claims.flat().map(({ id }) => id)).size, 56);
    }));
});
