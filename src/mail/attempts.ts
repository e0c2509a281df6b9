import type { Clock } from '../clock.ts';
import type { Keyring } from '../crypto/secrets.ts';
import type { Db, OutboxRow } from '../db/schema.ts';
import { decideAfterFailure } from './retries.ts';
import { openMail } from './sealed-mail.ts';
import type { ServerEvent, ServerWatch } from './server-watch.ts';
import { deleteOutboxRows, postponeOutboxRow, releaseOutboxRows } from './store.ts';
import { DeliveryError, type MailTransport } from './transport.ts';

/** What the operator should know. The errors of mail servers among it hold none of their words. */
export type DeliveryEvent =
  | { type: 'postponed'; id: string; attempts: number; error: unknown }
  | { type: 'given_up'; id: string; attempts: number; error: DeliveryError }
  | { type: 'expired'; id: string; attempts: number }
  | { type: 'outbox_unreachable'; error: unknown }
  | ServerEvent;

/** What a delivery needs. */
export type DeliveryOptions = {
  db: Db;
  clock: Clock;
  keyring: Keyring;
  transport: MailTransport;
  report: (event: DeliveryEvent) => void;
  /** Told of every mail that was accepted, which is nothing that the operator should know one by one. */
  onDelivered?: () => void;
  /** From 0 up to 1, to spread what is tried again. */
  random?: () => number;
};

/** Tries claimed messages, one at a time each. */
export type Attempts = {
  /** Tries a message once and does with its row what follows. Rejects when the row cannot be reached. */
  run(row: OutboxRow): Promise<void>;
  /** Whether a message is on its way at this moment. */
  isSending(): boolean;
  /** Removes the rows of messages that were accepted and are still there, because the database was away then. */
  removeAccepted(): Promise<void>;
  /** Ends every attempt: what is accepted by now is removed, and the others are given back. */
  release(ids: readonly string[]): Promise<void>;
};

/** Creates the attempts over a transport. `onLetIn` is told when the server lets one in, so that there may be room. */
export function createAttempts(options: DeliveryOptions, watch: ServerWatch, onLetIn: () => void): Attempts {
  const { db, clock, transport, report, random = Math.random } = options;
  // By the mail server, with the row still there. To send one again would be to send it twice.
  const accepted = new Set<string>();
  let sending = 0;
  // From here on a failure is the closed transport's, and the row has been given back already.
  let isReleased = false;

  async function send({ id, attempts, expires_at, sealed_message }: OutboxRow): Promise<void> {
    // An expired message is not even opened: one sealed under a secret that is gone must end too.
    if (expires_at <= clock.now()) return report({ type: 'expired', id, attempts: attempts - 1 });
    const mail = openMail(options.keyring, id, sealed_message);
    const isDecoy = mail.to === '';
    if (isDecoy) return;
    sending += 1;
    try {
      await transport.send(mail, id, () => {
        watch.noteLetIn(clock.now());
        onLetIn();
      });
    } finally {
      sending -= 1;
    }
    accepted.add(id);
    watch.noteReply(clock.now());
    options.onDelivered?.();
  }

  async function dealWithFailure({ id, attempts }: OutboxRow, error: unknown): Promise<void> {
    const nowMs = clock.now();
    if (error instanceof DeliveryError) {
      if (error.fault === 'server') {
        watch.noteTrouble(error, nowMs, sending === 0);
        // It was not this mail's fault. Another instance may have a way to the server.
        return releaseOutboxRows(db, [id], nowMs);
      }
      if (error.replyCode !== undefined) watch.noteReply(nowMs);
    }
    const decision = decideAfterFailure(error, attempts, random);
    if (decision.isGivenUp) {
      await deleteOutboxRows(db, [id]);
      return report({ type: 'given_up', id, attempts, error: decision.error });
    }
    report({ type: 'postponed', id, attempts, error });
    await postponeOutboxRow(db, id, nowMs + decision.delayMs);
  }

  async function removeAccepted(): Promise<void> {
    const ids = [...accepted];
    if (ids.length === 0) return;
    await deleteOutboxRows(db, ids);
    for (const id of ids) accepted.delete(id);
  }

  return {
    async run(row) {
      try {
        await send(row);
      } catch (error) {
        if (!isReleased) await dealWithFailure(row, error);
        return;
      }
      await deleteOutboxRows(db, [row.id]);
      accepted.delete(row.id);
    },
    isSending: () => sending > 0,
    removeAccepted,
    async release(ids) {
      isReleased = true;
      await transport.close();
      const unsent = ids.filter((id) => !accepted.has(id));
      await removeAccepted();
      if (unsent.length > 0) await releaseOutboxRows(db, unsent, clock.now());
    },
  };
}
