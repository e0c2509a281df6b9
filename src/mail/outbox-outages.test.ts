import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { inWorld, newMail, newRefusal, openPost, readRows, readTries } from '../../test/outbox.ts';
import { backends } from '../../test/system.ts';
import { until } from '../../test/until.ts';

const away = newRefusal('server', undefined, 'CONN');
const shut = newRefusal('server', 535, 'CONN');

for (const backend of backends) {
  describe(`the outbox, while the mail server takes nothing (${backend})`, () => {
    test('tries one mail in pauses of 1, 2, 4, 8 and 10 seconds, at no cost to any, and sends all when it is back', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport, events } = openPost(world);
        transport.refuse = () => away;
        const recipients = Array.from({ length: 25 }, (_, index) => `user-${index}@example.com`).sort();
        for (const to of recipients) await outbox.enqueue(world.db, newMail(world, { to }));
        await outbox.deliverDue();
        assert.equal(transport.attempts, 1);
        assert.equal(outbox.serverState(), 'down');
        for (const pauseSeconds of [1, 2, 4, 8, 10, 10]) {
          const before: number = transport.attempts;
          world.clock.advanceSeconds(pauseSeconds - 0.001);
          outbox.wake();
          await outbox.deliverDue();
          assert.equal(transport.attempts, before, `not before ${pauseSeconds} seconds`);
          world.clock.advanceSeconds(0.001);
          await outbox.deliverDue();
          assert.equal(transport.attempts, before + 1);
        }
        const tries = await readTries(world.db, world.clock.now());
        assert.ok(tries.length === 25 && tries.every(({ attempts, inSeconds }) => attempts === 0 && inSeconds <= 0));

        transport.refuse = () => undefined;
        world.clock.advanceSeconds(10);
        await outbox.deliverDue();
        assert.deepEqual(transport.sent.map(({ to }) => to).sort(), recipients);
        assert.deepEqual(await readRows(world.db), []);
        assert.equal(outbox.serverState(), 'up');
        assert.deepEqual(events, [{ type: 'server_down', error: away }, { type: 'server_up' }]);
      }));

    test('tries once after 5 seconds, and then every 2, 4 and 5 minutes, what refuses everybody for good', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport, events } = openPost(world);
        transport.refuse = () => shut;
        const expiresAtMs = world.clock.now() + 3 * 86_400_000;
        for (let index = 0; index < 15; index += 1) await outbox.enqueue(world.db, newMail(world, { expiresAtMs }));
        await outbox.deliverDue();
        for (const [index, pauseSeconds] of [5, 120, 240, 300, 300].entries()) {
          world.clock.advanceSeconds(pauseSeconds - 0.001);
          await outbox.deliverDue();
          assert.equal(transport.attempts, index + 1, `not before ${pauseSeconds} seconds`);
          world.clock.advanceSeconds(0.001);
          await outbox.deliverDue();
        }
        world.clock.advanceSeconds(86_400);
        await outbox.deliverDue();
        assert.equal(transport.attempts, 7);
        const tries = await readTries(world.db, world.clock.now());
        assert.ok(tries.length === 15 && tries.every(({ attempts, inSeconds }) => attempts === 0 && inSeconds <= 0));
        assert.deepEqual(events, [{ type: 'server_down', error: shut }]);
      }));

    test('tells why once, and again when the reason is another', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport, events } = openPost(world);
        await outbox.enqueue(world.db, newMail(world));
        for (const reason of [away, away, shut]) {
          transport.refuse = () => reason;
          await outbox.deliverDue();
          world.clock.advanceSeconds(10);
        }
        assert.deepEqual(
          events.map((event) => event.type === 'server_down' && event.error),
          [away, shut],
        );
      }));

    test('does not wait longer when the clock is set back', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport } = openPost(world);
        world.clock.advanceSeconds(3600);
        transport.refuse = () => shut;
        await outbox.enqueue(world.db, newMail(world));
        await outbox.deliverDue();
        world.clock.advanceSeconds(-3600);
        await outbox.enqueue(world.db, newMail(world));
        transport.refuse = () => undefined;
        await outbox.deliverDue();
        assert.equal(transport.sent.length, 1);
      }));

    test('leaves a mail to another instance, which may have a way to the server', () =>
      inWorld(backend, async (world) => {
        const [cut, other] = [openPost(world), openPost(world)];
        cut.transport.refuse = () => away;
        await cut.outbox.enqueue(world.db, newMail(world));
        await cut.outbox.deliverDue();
        await other.outbox.deliverDue();
        assert.equal(other.transport.sent.length, 1);
        assert.deepEqual([cut.outbox.serverState(), other.outbox.serverState()], ['down', 'up']);
      }));

    test('drops what expired meanwhile and goes on to what did not', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport } = openPost(world);
        transport.refuse = () => away;
        const expiresAtMs = world.clock.now() + 5_000;
        for (let index = 0; index < 3; index += 1) await outbox.enqueue(world.db, newMail(world, { expiresAtMs }));
        await outbox.enqueue(world.db, newMail(world, { to: null }));
        await outbox.enqueue(world.db, newMail(world, { to: 'alive@example.com' }));
        await outbox.deliverDue();
        transport.refuse = () => undefined;
        world.clock.advanceSeconds(10);
        await outbox.deliverDue();
        assert.deepEqual(
          transport.sent.map(({ to }) => to),
          ['alive@example.com'],
        );
        assert.deepEqual(await readRows(world.db), []);
      }));

    test('is told apart from one that lets us in and refuses our sender: that is down until a mail is taken', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport, events } = openPost(world);
        const refusal = newRefusal('server', 451, 'MAIL FROM');
        transport.refuse = () => refusal;
        await outbox.enqueue(world.db, newMail(world));
        for (let turn = 0; turn < 4; turn += 1) {
          await outbox.deliverDue();
          assert.equal(outbox.serverState(), 'down');
          world.clock.advanceSeconds(10);
        }
        assert.equal(transport.attempts, 4);
        transport.refuse = () => undefined;
        await outbox.deliverDue();
        assert.deepEqual(events, [{ type: 'server_down', error: refusal }, { type: 'server_up' }]);
      }));

    test('takes a refusal of one mail, or a mail that is accepted, for the sign that it is back', () =>
      inWorld(backend, async (world) => {
        for (const proof of [newRefusal('recipient', 550), newRefusal('mail', 450), undefined]) {
          const { outbox, transport } = openPost(world);
          transport.refuse = () => away;
          await outbox.enqueue(world.db, newMail(world));
          await outbox.deliverDue();
          assert.equal(outbox.serverState(), 'down');
          transport.refuse = () => proof;
          world.clock.advanceSeconds(1);
          await outbox.deliverDue();
          assert.equal(outbox.serverState(), 'up');
          await world.db.deleteFrom('outbox').execute();
        }
      }));

    test('does not take one that broke off a mail for away: that may be the mail’s doing', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport, events } = openPost(world);
        transport.refuse = () => newRefusal('mail');
        await outbox.enqueue(world.db, newMail(world));
        await outbox.deliverDue();
        assert.equal(outbox.serverState(), 'up');
        assert.deepEqual(
          events.map(({ type }) => type),
          ['postponed'],
        );
        assert.deepEqual(await readTries(world.db, world.clock.now()), [{ attempts: 1, inSeconds: 2 }]);
      }));

    test('does not take one for away that refuses a connection while another one is at work', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport, events } = openPost(world);
        transport.hangs = ({ to }) => to === 'slow@example.com';
        transport.refuse = ({ to }) => (to === 'slow@example.com' ? undefined : away);
        await outbox.enqueue(world.db, newMail(world, { to: 'slow@example.com' }));
        outbox.wake();
        await until(() => transport.underWay === 1);
        for (let index = 0; index < 20; index += 1) await outbox.enqueue(world.db, newMail(world));
        outbox.wake();
        // The slow one was let in, so there was room for another, whose refusal takes it away again.
        await until(() => transport.attempts === 2);
        const countClaimed = async () =>
          (await readTries(world.db, world.clock.now())).filter(({ inSeconds }) => inSeconds > 0).length;
        await until(async () => (await countClaimed()) === 1);
        for (let turn = 0; turn < 3; turn += 1) {
          outbox.wake();
          await new Promise((resolve) => setImmediate(resolve));
        }
        assert.equal(transport.attempts, 2);
        assert.equal(outbox.serverState(), 'up');
        assert.deepEqual(events, []);
      }));
  });
}

describe('the watch over the mail server', () => {
  test('looks at the start, where no mail would tell, and again after thirty seconds', () =>
    inWorld('sqlite+memory', async (world) => {
      const { outbox, transport, events } = openPost(world);
      transport.isAway = () => away;
      assert.equal(outbox.serverState(), 'up', 'nothing is known yet');
      outbox.start();
      await until(() => outbox.serverState() === 'down');
      world.clock.advanceSeconds(30);
      await until(() => transport.looks === 2);
      transport.isAway = () => undefined;
      world.clock.advanceSeconds(30);
      await until(() => outbox.serverState() === 'up');
      assert.deepEqual(events, [{ type: 'server_down', error: away }, { type: 'server_up' }]);
      assert.equal(transport.looks, 3);
      await outbox.close();
    }));

  test('does not look where mail has told within thirty seconds', () =>
    inWorld('sqlite+memory', async (world) => {
      let readings = 0;
      const now = () => {
        readings += 1;
        return world.clock.now();
      };
      const { outbox, transport } = openPost({ ...world, clock: { ...world.clock, now } });
      await outbox.enqueue(world.db, newMail(world));
      await outbox.deliverDue();
      outbox.start();
      world.clock.advanceSeconds(29.999);
      // The timer reads the clock at every turn.
      const before = readings;
      await until(() => readings > before + 3);
      assert.equal(transport.looks, 0);
      world.clock.advanceSeconds(0.001);
      await until(() => transport.looks === 1);
      await outbox.close();
    }));

  test('begins with one mail, and with each that is let in there may be one more at once, up to ten', () =>
    inWorld('sqlite+memory', async (world) => {
      const { outbox, transport } = openPost(world);
      transport.hangs = () => true;
      transport.refuse = ({ to }) => (to === 'first@example.com' ? away : undefined);
      await outbox.enqueue(world.db, newMail(world, { to: 'first@example.com' }));
      for (let index = 0; index < 15; index += 1) await outbox.enqueue(world.db, newMail(world));
      outbox.wake();
      await until(() => transport.attempts === 1);
      await new Promise((resolve) => setImmediate(resolve));
      // The first one is not let in and not answered, so that nothing is known yet.
      assert.equal(transport.attempts, 1);
      const other = openPost(world);
      other.transport.hangs = () => true;
      other.outbox.wake();
      await until(() => other.transport.underWay === 10);
      await new Promise((resolve) => setImmediate(resolve));
      assert.equal(other.transport.attempts, 10);
    }));
});
