import { randomBytes } from 'node:crypto';
import { createKeyring, type Keyring } from '../src/crypto/secrets.ts';
import type { Database } from '../src/db/database.ts';
import type { Db } from '../src/db/schema.ts';
import type { DeliveryEvent } from '../src/mail/attempts.ts';
import { createOutbox, type Outbox, type OutgoingMail } from '../src/mail/outbox.ts';
import { DeliveryError, type DeliveryFault, type Mail, type MailTransport } from '../src/mail/transport.ts';
import { createTestClock, type TestClock } from './clock.ts';
import { onDatabase } from './database.ts';
import type { Backend } from './system.ts';

const style = { serviceUrl: 'http://latchkey.test', subjectTemplate: '{subject}' };

type World = { database: Database; db: Db; url: string; clock: TestClock; keyring: Keyring };
/** The outbox of one instance, with what it sent and what it reported. */
export type Post = {
  outbox: Outbox;
  transport: TestTransport;
  events: DeliveryEvent[];
};

type TestTransport = MailTransport & {
  sent: (Mail & { id: string })[];
  attempts: number;
  looks: number;
  closed: boolean;
  underWay: number;
  hangs(mail: Mail): boolean;
  /** What a delivery is refused with; nothing where it is accepted. */
  refuse(mail: Mail): Error | undefined;
  /** What a look fails with. */
  isAway(): Error | undefined;
};

function createTransport(): TestTransport {
  const transport: TestTransport = {
    sent: [],
    attempts: 0,
    looks: 0,
    closed: false,
    underWay: 0,
    hangs: () => false,
    refuse: () => undefined,
    isAway: () => undefined,
    async send(mail, id, onLetIn) {
      transport.attempts += 1;
      transport.underWay += 1;
      const failure = transport.refuse(mail);
      const isShut = failure instanceof DeliveryError && failure.stage === 'CONN';
      // A real server answers later, and others get their turn meanwhile.
      await new Promise((resolve) => setImmediate(resolve));
      if (!isShut) onLetIn?.();
      if (transport.hangs(mail)) await new Promise(() => {});
      await new Promise((resolve) => setImmediate(resolve));
      transport.underWay -= 1;
      if (failure !== undefined) throw failure;
      transport.sent.push({ ...mail, id });
    },
    async verify() {
      transport.looks += 1;
      const failure = transport.isAway();
      if (failure !== undefined) throw failure;
    },
    async close() {
      transport.closed = true;
    },
  };
  return transport;
}

/** A refusal as the transport tells of it. */
export function newRefusal(fault: DeliveryFault, replyCode?: number, stage = 'RCPT TO'): DeliveryError {
  return new DeliveryError({ fault, stage, code: 'ECONNREFUSED', replyCode, enhancedCode: undefined });
}

/** Opens the outbox of one instance. Nothing is added to its pauses, so that tests can say when they end. */
export function openPost(world: World, random = () => 0): Post {
  const transport = createTransport();
  return { ...openOutbox(world, transport, random), transport };
}

/** Opens the outbox of one instance over a transport. */
export function openOutbox({ db, clock, keyring }: World, transport: MailTransport, random = () => 0) {
  const events: DeliveryEvent[] = [];
  const report = (event: DeliveryEvent) => void events.push(event);
  return { outbox: createOutbox({ db, clock, keyring, transport, style, report, random }), events };
}

/** Runs a check with a database, a clock and a keyring, which the outboxes of several instances share. */
export function inWorld(backend: Backend, check: (world: World) => Promise<void>): Promise<void> {
  return onDatabase(backend, (database, url) =>
    check({ database, db: database.db, url, clock: createTestClock(), keyring: newKeyring() }),
  );
}

export function newKeyring(): Keyring {
  return createKeyring([randomBytes(32).toString('base64')]);
}

export function newMail({ clock }: World, fields: Partial<OutgoingMail> = {}): OutgoingMail {
  return {
    to: 'user@example.com',
    userId: null,
    locale: null,
    message: { kind: 'code', purpose: 'login', code: 'ABC123', expiresInMinutes: 5 },
    expiresAtMs: clock.now() + 300_000,
    ...fields,
  };
}

/** What the rows say about further tries. */
export async function readTries(db: Db, nowMs: number) {
  const rows = await readRows(db);
  return rows.map(({ attempts, next_attempt_at }) => ({ attempts, inSeconds: (next_attempt_at - nowMs) / 1000 }));
}

export function readRows(db: Db) {
  return db.selectFrom('outbox').selectAll().execute();
}
