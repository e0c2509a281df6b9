import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { inWorld, newKeyring, newMail, openPost, readRows } from '../../test/outbox.ts';
import { backends } from '../../test/system.ts';
import { newId } from '../crypto/ids.ts';
import { inTransaction } from '../db/database.ts';
import type { Db } from '../db/schema.ts';

for (const backend of backends) {
  describe(`the outbox (${backend})`, () => {
    test('a mail is delivered once with what was written, and its row is gone', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport, events } = openPost(world);
        await outbox.enqueue(world.db, newMail(world, { to: 'ada@example.com' }));
        assert.equal(transport.attempts, 0, 'nothing is sent before it is delivered');
        await outbox.deliverDue();
        await outbox.deliverDue();
        const [mail, ...more] = transport.sent;
        assert.deepEqual(more, []);
        assert.equal(mail?.to, 'ada@example.com');
        assert.equal(mail?.subject, 'ABC123 is your code to log in');
        assert.match(mail?.text ?? '', /ABC123/);
        assert.match(mail?.html ?? '', /ABC123/);
        assert.deepEqual(await readRows(world.db), []);
        assert.deepEqual(events, []);
      }));

    test('a mail of a transaction that is rolled back is never sent', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport } = openPost(world);
        const failure = new Error('changed my mind');
        const work = inTransaction(world.db, async (tx) => {
          await outbox.enqueue(tx, newMail(world));
          throw failure;
        });
        await assert.rejects(work, failure);
        await outbox.deliverDue();
        assert.deepEqual(transport.sent, []);
        assert.deepEqual(await readRows(world.db), []);
      }));

    test('nothing of recipient, code or text can be read in the row', () =>
      inWorld(backend, async (world) => {
        const { outbox } = openPost(world);
        await outbox.enqueue(world.db, newMail(world, { to: 'ada@example.com' }));
        const [row] = await readRows(world.db);
        const payload = row?.sealed_message.split('.')[2] ?? '';
        const readable = `${JSON.stringify(row)} ${Buffer.from(payload, 'base64url').toString('latin1')}`;
        assert.ok(payload.length > 500);
        assert.doesNotMatch(readable, /ada@example|ABC123|your code|"subject"|<html/);
      }));

    test('a sealed message that is moved to another row is not sent', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport, events } = openPost(world);
        await outbox.enqueue(world.db, newMail(world));
        await world.db.updateTable('outbox').set({ id: newId() }).execute();
        await outbox.deliverDue();
        assert.deepEqual(transport.sent, []);
        assert.deepEqual(
          events.map(({ type }) => type),
          ['postponed'],
        );
      }));

    test('a decoy is a row like any other and is never sent', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport, events } = openPost(world);
        await outbox.enqueue(world.db, newMail(world, { to: null }));
        await outbox.enqueue(world.db, newMail(world));
        const [decoy, real] = (await readRows(world.db)).map(({ id: _id, sealed_message: _sealed, ...rest }) => rest);
        assert.deepEqual(decoy, real);
        await outbox.deliverDue();
        assert.equal(transport.sent.length, 1);
        assert.deepEqual(await readRows(world.db), []);
        assert.deepEqual(events, []);
      }));

    test('a mail that cannot be delivered is tried again after 2, 4, 8 … 300 seconds until it can', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport, events } = openPost(world);
        transport.refuse = () => new Error('refused');
        await outbox.enqueue(world.db, newMail(world, { expiresAtMs: world.clock.now() + 86_400_000 }));
        await outbox.deliverDue();
        const delaysSeconds = [2, 4, 8, 16, 32, 64, 128, 256, 300, 300];
        for (const [index, delaySeconds] of delaysSeconds.entries()) {
          assert.equal(transport.attempts, index + 1);
          world.clock.advanceSeconds(delaySeconds - 0.001);
          await outbox.deliverDue();
          assert.equal(transport.attempts, index + 1, `not before ${delaySeconds} seconds`);
          world.clock.advanceSeconds(0.001);
          await outbox.deliverDue();
        }
        assert.deepEqual(
          events.map((event) => event.type === 'postponed' && event.attempts),
          [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
        );
        transport.refuse = () => undefined;
        world.clock.advanceSeconds(300);
        await outbox.deliverDue();
        await outbox.deliverDue();
        assert.equal(transport.sent.length, 1);
        assert.deepEqual(await readRows(world.db), []);
      }));

    test('a recipient that is refused does not hold up the others', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport } = openPost(world);
        transport.refuse = ({ to }) => (to === 'refused@example.com' ? new Error('refused') : undefined);
        for (const to of ['one@example.com', 'refused@example.com', 'two@example.com']) {
          await outbox.enqueue(world.db, newMail(world, { to }));
        }
        await outbox.deliverDue();
        assert.deepEqual(transport.sent.map(({ to }) => to).sort(), ['one@example.com', 'two@example.com']);
      }));

    test('a mail is sent until the millisecond before its expiry and dropped unsent from then on', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport, events } = openPost(world);
        const soon = world.clock.now() + 60_000;
        await outbox.enqueue(world.db, newMail(world, { to: 'late@example.com', expiresAtMs: soon }));
        await outbox.enqueue(world.db, newMail(world, { to: 'in-time@example.com', expiresAtMs: soon + 1 }));
        world.clock.advanceSeconds(60);
        await outbox.deliverDue();
        assert.deepEqual(
          transport.sent.map(({ to }) => to),
          ['in-time@example.com'],
        );
        assert.deepEqual(await readRows(world.db), []);
        assert.deepEqual(
          events.map(({ type }) => type),
          ['expired'],
        );
      }));

    test('a mail that expires while it is retried is dropped unsent', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport } = openPost(world);
        transport.refuse = () => new Error('refused');
        await outbox.enqueue(world.db, newMail(world, { expiresAtMs: world.clock.now() + 3_000 }));
        for (const waitSeconds of [0, 2, 4]) {
          world.clock.advanceSeconds(waitSeconds);
          await outbox.deliverDue();
        }
        assert.equal(transport.attempts, 2);
        assert.deepEqual(await readRows(world.db), []);
      }));

    test('the mail to a deleted user goes with the user, and other mail stays', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport } = openPost(world);
        const [gone, kept] = [await insertUser(world.db), await insertUser(world.db)];
        await outbox.enqueue(world.db, newMail(world, { to: 'gone@example.com', userId: gone }));
        await outbox.enqueue(world.db, newMail(world, { to: 'kept@example.com', userId: kept }));
        await outbox.enqueue(world.db, newMail(world, { to: 'nobody@example.com' }));
        await world.db.deleteFrom('users').where('id', '=', gone).execute();
        await outbox.deliverDue();
        assert.deepEqual(transport.sent.map(({ to }) => to).sort(), ['kept@example.com', 'nobody@example.com']);
      }));

    test('a mail sealed under a secret that is gone is tried until it expires, and dropped then', () =>
      inWorld(backend, async (world) => {
        await openPost(world).outbox.enqueue(world.db, newMail(world, { expiresAtMs: world.clock.now() + 60_000 }));
        const { outbox, transport, events } = openPost({ ...world, keyring: newKeyring() });
        await outbox.deliverDue();
        assert.match(String(events[0]?.type === 'postponed' && events[0].error), /is not configured/);
        assert.equal((await readRows(world.db)).length, 1);
        world.clock.advanceSeconds(60);
        await outbox.deliverDue();
        assert.deepEqual(await readRows(world.db), []);
        assert.equal(transport.attempts, 0);
        assert.deepEqual(
          events.map(({ type }) => type),
          ['postponed', 'expired'],
        );
      }));

    test('closing waits for the delivery under way', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport } = openPost(world);
        await outbox.enqueue(world.db, newMail(world));
        outbox.start();
        outbox.wake();
        await outbox.close();
        assert.equal(transport.sent.length, 1);
        assert.equal(transport.closed, true);
        assert.deepEqual(await readRows(world.db), []);
      }));

    test('a database that is away is reported and ends nothing', () =>
      inWorld(backend, async (world) => {
        const { outbox, events } = openPost(world);
        await world.database.close();
        outbox.wake();
        while (events.length === 0) await new Promise((resolve) => setImmediate(resolve));
        // Once, however often it is tried.
        await assert.rejects(outbox.deliverDue());
        outbox.wake();
        await new Promise((resolve) => setImmediate(resolve));
        assert.deepEqual(
          events.map(({ type }) => type),
          ['outbox_unreachable'],
        );
        await outbox.close();
      }));
  });
}

async function insertUser(db: Db): Promise<string> {
  const id = newId();
  const email = `${id}@example.com`;
  const times = { created_at: 1, updated_at: 1 };
  await db
    .insertInto('users')
    .values({ id, email, metadata: '{}', status: 'active', ...times })
    .execute();
  return id;
}
