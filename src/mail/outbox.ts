import type { Clock } from '../clock.ts';
import { newId } from '../crypto/ids.ts';
import { type Keyring, seal, unseal } from '../crypto/secrets.ts';
import type { Db, OutboxRow } from '../db/schema.ts';
import { composeMessage, type Message } from './messages.ts';
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
  /** Stops the timer and waits for the delivery under way. */
  close(): Promise<void>;
};

type OutboxOptions = {
  db: Db;
  clock: Clock;
  keyring: Keyring;
  transport: MailTransport;
  serviceUrl: string;
  onFailure: (failure: { id: string; attempts: number; error: unknown }) => void;
};

const batchSize = 20;
const pollEveryMs = 1_000;
// Longer than any delivery may take, so that a slow server's message is not sent twice.
const leaseMs = 120_000;
const firstRetryMs = 2_000;
const maxRetryMs = 300_000;

/** How long a notice is worth delivering; a code is worth it only as long as it works. */
export const noticeTtlMs = 3 * 24 * 60 * 60 * 1000;

/** Creates the outbox over a transport. */
export function createOutbox(options: OutboxOptions): Outbox {
  const { db, clock, keyring, transport } = options;
  let timer: NodeJS.Timeout | undefined;
  let delivering: Promise<void> | undefined;
  let wokenWhileDelivering = false;

  async function deliver(row: OutboxRow): Promise<void> {
    try {
      const mail = openMail(keyring, row);
      if (mail.to !== '' && row.expires_at > clock.now()) await transport.send(mail);
      await deleteOutboxRow(db, row.id);
    } catch (error) {
      options.onFailure({ id: row.id, attempts: row.attempts, error });
      const delayMs = Math.min(firstRetryMs * 2 ** (row.attempts - 1), maxRetryMs);
      await postponeOutboxRow(db, row.id, clock.now() + delayMs);
    }
  }

  async function deliverBatches(): Promise<void> {
    do {
      wokenWhileDelivering = false;
      const nowMs = clock.now();
      const rows = await claimDueRows(db, { nowMs, leaseUntilMs: nowMs + leaseMs, batch: batchSize });
      await Promise.all(rows.map(deliver));
      if (rows.length === batchSize) wokenWhileDelivering = true;
    } while (wokenWhileDelivering);
  }

  function deliverDue(): Promise<void> {
    wokenWhileDelivering = true;
    delivering ??= deliverBatches().finally(() => {
      delivering = undefined;
    });
    return delivering;
  }

  function wake(): void {
    deliverDue().catch((error: unknown) => options.onFailure({ id: 'batch', attempts: 0, error }));
  }

  return {
    async enqueue(target, mail) {
      const id = newId();
      const rendered: Mail = { to: mail.to ?? '', ...composeMessage(mail.message, mail.locale, options.serviceUrl) };
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
      clearInterval(timer);
      await delivering?.catch(() => {});
      await transport.close();
    },
  };
}

function openMail(keyring: Keyring, row: OutboxRow): Mail {
  return JSON.parse(unseal(keyring, row.sealed_message, sealContext(row.id))) as Mail;
}

function sealContext(id: string): string {
  return `outbox/${id}`;
}
