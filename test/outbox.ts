import { randomBytes } from 'node:crypto';
import { createKeyring, type Keyring } from '../src/crypto/secrets.ts';
import type { Database } from '../src/db/database.ts';
import type { Db } from '../src/db/schema.ts';
import { createOutbox, type Outbox, type OutgoingMail } from '../src/mail/outbox.ts';
import type { Mail, MailTransport } from '../src/mail/transport.ts';
import { createTestClock, type TestClock } from './clock.ts';
import { onDatabase } from './database.ts';
import type { Backend } from './system.ts';

const style = { serviceUrl: 'http://latchkey.test', subjectTemplate: '{subject}' };

type Failure = { id: string; attempts: number; error: unknown };
type World = { database: Database; db: Db; url: string; clock: TestClock; keyring: Keyring };
/** The outbox of one instance, with what it sent and what failed. */
export type Post = { outbox: Outbox; transport: TestTransport; failures: Failure[] };

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

/** Opens the outbox of one instance. */
export function openPost({ db, clock, keyring }: World): Post {
  const transport = createTransport();
  const failures: Failure[] = [];
  const onFailure = (failure: Failure) => void failures.push(failure);
  const outbox = createOutbox({ db, clock, keyring, transport, style, onFailure });
  return { outbox, transport, failures };
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

export function readRows(db: Db) {
  return db.selectFrom('outbox').selectAll().execute();
}
