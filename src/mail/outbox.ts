import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../clock.ts';
import { newId } from '../crypto/ids.ts';
import { type Keyring, seal, unseal } from '../crypto/secrets.ts';
import type { Db, OutboxRow } from '../db/schema.ts';
import { composeMessage, type MailStyle, type Message } from './messages.ts';
import { claimDueRows, deleteOutboxRow, insertOutboxRow, postponeOutboxRow } from './store.ts';
import type { Mail, MailTransport } from './transport.ts';

/** A message on its way: to whom, in which language, and until when it is worth delivering. */
export type OutgoingMail = {
  /** Null makes a decoy: written like any other and never sent, so that an unknown address costs the same work. */
  to: string | null;
  /** Whose account it is about; the mail goes with the account when that is deleted. */
  userId: string | null;
  locale: string | null;
  message: Message;
  expiresAtMs: number;
};

/** The durable queue between a committed act and the mail that reports it. */
export type Outbox = {
  /** Writes the message, sealed. Pass the transaction of the act; call `wake` once it is committed. */
  enqueue(db: Db, mail: OutgoingMail): Promise<void>;
  /** Delivers soon, without being waited for. */
  wake(): void;
  /** Delivers everything that is due and resolves when each has been tried once. */
  deliverDue(): Promise<void>;
  start(): void;
  /** Waits a moment for the deliveries under way and gives the others back, for any instance to take at once. */
  close(): Promise<void>;
};

type OutboxOptions = {
  db: Db;
  clock: Clock;
  keyring: Keyring;
  transport: MailTransport;
  style: MailStyle;
  onFailure: (failure: { id: string; attempts: number; error: unknown }) => void;
};

// Places for deliveries. One that is slow takes one place, and the rest go on.
const maxInFlight = 10;
const pollEveryMs = 1_000;
// Longer than the transport lets a delivery take, so that a slow server's message is not sent twice.
const leaseMs = 120_000;
const closeLimitMs = 2_000;
const firstRetryMs = 2_000;
const maxRetryMs = 300_000;

// A notice is worth delivering for three days; a code only as long as it works.
const noticeTtlMs = 3 * 24 * 60 * 60 * 1000;

/** A mail that tells the owner of an account what happened to it. */
export function notice(
  owner: { id: string; email: string; locale: string | null },
  message: Message,
  nowMs: number,
): OutgoingMail {
  const { id: userId, email: to, locale } = owner;
  return { to, userId, locale, message, expiresAtMs: nowMs + noticeTtlMs };
}

/** Creates the outbox over a transport. */
export function createOutbox(options: OutboxOptions): Outbox {
  const { db, clock, keyring, transport } = options;
  const inFlight = new Map<string, Promise<void>>();
  let timer: NodeJS.Timeout | undefined;
  let claiming: Promise<void> | undefined;
  // Stays true while every place is taken, so that the next one to fall free claims again.
  let isWanted = false;
  let isClosing = false;
  let isReleased = false;

  async function deliver(row: OutboxRow): Promise<void> {
    try {
      // An expired message is not even opened: one sealed under a secret that is gone must end too.
      if (row.expires_at > clock.now()) await sendUnlessDecoy(openMail(keyring, row));
      await deleteOutboxRow(db, row.id);
    } catch (error) {
      if (isReleased) return;
      options.onFailure({ id: row.id, attempts: row.attempts, error });
      const delayMs = Math.min(firstRetryMs * 2 ** (row.attempts - 1), maxRetryMs);
      await postponeOutboxRow(db, row.id, clock.now() + delayMs);
    }
  }

  async function sendUnlessDecoy(mail: Mail): Promise<void> {
    if (mail.to !== '') await transport.send(mail);
  }

  function launch(row: OutboxRow): void {
    const delivery = deliver(row)
      .catch((error: unknown) => options.onFailure({ id: row.id, attempts: row.attempts, error }))
      .finally(() => {
        inFlight.delete(row.id);
        if (isWanted) wake();
      });
    inFlight.set(row.id, delivery);
  }

  async function claimWhileWanted(): Promise<void> {
    try {
      do {
        isWanted = false;
        const nowMs = clock.now();
        const places = maxInFlight - inFlight.size;
        const rows = await claimDueRows(db, { nowMs, leaseUntilMs: nowMs + leaseMs, batch: places });
        for (const row of rows) launch(row);
        if (rows.length === places) isWanted = true;
      } while (isWanted && mayClaim());
    } finally {
      claiming = undefined;
    }
  }

  function mayClaim(): boolean {
    return inFlight.size < maxInFlight && !isClosing;
  }

  async function claim(): Promise<void> {
    isWanted = true;
    if (claiming === undefined && mayClaim()) claiming = claimWhileWanted();
    await claiming;
  }

  function wake(): void {
    claim().catch((error: unknown) => options.onFailure({ id: 'batch', attempts: 0, error }));
  }

  async function deliverDue(): Promise<void> {
    await claim();
    await settle();
  }

  async function settle(): Promise<void> {
    while (claiming !== undefined || inFlight.size > 0) await (claiming ?? Promise.race(inFlight.values()));
  }

  async function giveBack(): Promise<void> {
    const ids = [...inFlight.keys()];
    await Promise.all(ids.map((id) => postponeOutboxRow(db, id, clock.now())));
  }

  return {
    async enqueue(target, mail) {
      const id = newId();
      const rendered: Mail = { to: mail.to ?? '', ...composeMessage(mail.message, mail.locale, options.style) };
      await insertOutboxRow(target, {
        id,
        user_id: mail.userId,
        sealed_message: seal(keyring, JSON.stringify(rendered), sealContext(id)),
        created_at: clock.now(),
        expires_at: mail.expiresAtMs,
        attempts: 0,
        next_attempt_at: clock.now(),
      });
    },

    wake,
    deliverDue,

    start() {
      timer ??= setInterval(wake, pollEveryMs).unref();
    },

    async close() {
      isClosing = true;
      clearInterval(timer);
      await Promise.race([settle().catch(() => {}), sleep(closeLimitMs, undefined, { ref: false })]);
      isReleased = true;
      await transport.close();
      await giveBack();
    },
  };
}

function openMail(keyring: Keyring, row: OutboxRow): Mail {
  return JSON.parse(unseal(keyring, row.sealed_message, sealContext(row.id))) as Mail;
}

function sealContext(id: string): string {
  return `outbox/${id}`;
}
