import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { createTestClock, type TestClock } from '../../test/clock.ts';
import { type Backend, backends, createScratch } from '../../test/system.ts';
import { newId } from '../crypto/ids.ts';
import { createKeyring, type Keyring } from '../crypto/secrets.ts';
import { type Database, inTransaction, openDatabase } from '../db/database.ts';
import type { Db } from '../db/schema.ts';
import { createOutbox, type Outbox, type OutgoingMail } from './outbox.ts';
import type { Mail, MailTransport } from './transport.ts';

const style = { serviceUrl: 'http://latchkey.test', subjectTemplate: '{subject}' };

type Failure = { id: string; attempts: number; error: unknown };
type World = { database: Database; db: Db; url: string; clock: TestClock; keyring: Keyring };
type Post = { outbox: Outbox; transport: TestTransport; failures: Failure[] };

for (const backend of backends) {
  describe(`the outbox (${backend})`, () => {
    test('a mail is delivered once with what was written, and its row is gone', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport, failures } = openPost(world);
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
        assert.deepEqual(failures, []);
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
        const { outbox, transport, failures } = openPost(world);
        await outbox.enqueue(world.db, newMail(world));
        await world.db.updateTable('outbox').set({ id: newId() }).execute();
        await outbox.deliverDue();
        assert.deepEqual(transport.sent, []);
        assert.equal(failures.length, 1);
      }));

    test('a decoy is a row like any other and is never sent', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport, failures } = openPost(world);
        await outbox.enqueue(world.db, newMail(world, { to: null }));
        await outbox.enqueue(world.db, newMail(world));
        const [decoy, real] = (await readRows(world.db)).map(({ id: _id, sealed_message: _sealed, ...rest }) => rest);
        assert.deepEqual(decoy, real);
        await outbox.deliverDue();
        assert.equal(transport.sent.length, 1);
        assert.deepEqual(await readRows(world.db), []);
        assert.deepEqual(failures, []);
      }));

    test('a mail that cannot be delivered is tried again after 2, 4, 8 … 300 seconds until it can', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport, failures } = openPost(world);
        transport.refuse = () => true;
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
          failures.map(({ attempts }) => attempts),
          [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
        );
        transport.refuse = () => false;
        world.clock.advanceSeconds(300);
        await outbox.deliverDue();
        await outbox.deliverDue();
        assert.equal(transport.sent.length, 1);
        assert.deepEqual(await readRows(world.db), []);
      }));

    test('a recipient that is refused does not hold up the others', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport } = openPost(world);
        transport.refuse = ({ to }) => to === 'refused@example.com';
        for (const to of ['one@example.com', 'refused@example.com', 'two@example.com']) {
          await outbox.enqueue(world.db, newMail(world, { to }));
        }
        await outbox.deliverDue();
        assert.deepEqual(transport.sent.map(({ to }) => to).sort(), ['one@example.com', 'two@example.com']);
      }));

    test('a mail is sent until the millisecond before its expiry and dropped unsent from then on', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport, failures } = openPost(world);
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
        assert.deepEqual(failures, []);
      }));

    test('a mail that expires while it is retried is dropped unsent', () =>
      inWorld(backend, async (world) => {
        const { outbox, transport } = openPost(world);
        transport.refuse = () => true;
        await outbox.enqueue(world.db, newMail(world, { expiresAtMs: world.clock.now() + 3_000 }));
        for (const waitSeconds of [0, 2, 4]) {
          world.clock.advanceSeconds(waitSeconds);
          await outbox.deliverDue();
        }
        assert.equal(transport.attempts, 2);
        assert.deepEqual(await readRows(world.db), []);
      }));

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
        assert.deepEqual(stuck.failures, []);
      }));

    test('a mail sealed under a secret that is gone is tried until it expires, and dropped then', () =>
      inWorld(backend, async (world) => {
        await openPost(world).outbox.enqueue(world.db, newMail(world, { expiresAtMs: world.clock.now() + 60_000 }));
        const { outbox, transport, failures } = openPost({ ...world, keyring: newKeyring() });
        await outbox.deliverDue();
        assert.match(String(failures[0]?.error), /is not configured/);
        assert.equal((await readRows(world.db)).length, 1);
        world.clock.advanceSeconds(60);
        await outbox.deliverDue();
        assert.deepEqual(await readRows(world.db), []);
        assert.deepEqual([transport.attempts, failures.length], [0, 1]);
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
        const { outbox, failures } = openPost(world);
        await world.database.close();
        outbox.wake();
        while (failures.length === 0) await new Promise((resolve) => setImmediate(resolve));
        assert.deepEqual(
          failures.map(({ id }) => id),
          ['batch'],
        );
        await outbox.close();
      }));
  });
}

type TestTransport = MailTransport & {
  sent: Mail[];
  attempts: number;
  closed: boolean;
  underWay: number;
  hangs(mail: Mail): boolean;
  refuse(mail: Mail): boolean;
};

function createTransport(): TestTransport {
  const transport: TestTransport = {
    sent: [],
    attempts: 0,
    closed: false,
    underWay: 0,
    hangs: () => false,
    refuse: () => false,
    async send(mail) {
      transport.attempts += 1;
      transport.underWay += 1;
      if (transport.hangs(mail)) await new Promise(() => {});
      // A real server answers later, and others get their turn meanwhile.
      await new Promise((resolve) => setImmediate(resolve));
      transport.underWay -= 1;
      if (transport.refuse(mail)) throw new Error('450 try again later');
      transport.sent.push(mail);
    },
    async close() {
      transport.closed = true;
    },
  };
  return transport;
}

function openPost({ db, clock, keyring }: World): Post {
  const transport = createTransport();
  const failures: Failure[] = [];
  const onFailure = (failure: Failure) => void failures.push(failure);
  const outbox = createOutbox({ db, clock, keyring, transport, style, onFailure });
  return { outbox, transport, failures };
}

async function inWorld(backend: Backend, check: (world: World) => Promise<void>): Promise<void> {
  const { environment, remove } = await createScratch(backend);
  const url = environment.DATABASE_URL ?? `sqlite:${join(environment.DATA_DIR ?? '', 'latchkey.db')}`;
  const database = await openDatabase(url, () => {});
  try {
    await check({ database, db: database.db, url, clock: createTestClock(), keyring: newKeyring() });
  } finally {
    await database.close();
    await remove();
  }
}

function newKeyring(): Keyring {
  return createKeyring([randomBytes(32).toString('base64')]);
}

async function until(condition: () => boolean): Promise<void> {
  const giveUpAtMs = performance.now() + 5_000;
  while (!condition()) {
    assert.ok(performance.now() < giveUpAtMs, `in vain waited for ${condition}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function newMail({ clock }: World, fields: Partial<OutgoingMail> = {}): OutgoingMail {
  return {
    to: 'user@example.com',
    userId: null,
    locale: null,
    message: { kind: 'code', purpose: 'login', code: 'ABC123', expiresInMinutes: 5 },
    expiresAtMs: clock.now() + 300_000,
    ...fields,
  };
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

function readRows(db: Db) {
  return db.selectFrom('outbox').selectAll().execute();
}
