import { newId } from '../crypto/ids.ts';
import type { Db } from '../db/schema.ts';
import type { DeliveryOptions } from './attempts.ts';
import { createDelivery, type Delivery } from './delivery.ts';
import { composeMessage, type MailStyle, type Message } from './messages.ts';
import { sealMail } from './sealed-mail.ts';
import { insertOutboxRow } from './store.ts';

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

/** The durable queue between a committed act and the mail that reports it, with what delivers it. */
export type Outbox = Delivery & {
  /** Writes the message, sealed. Pass the transaction of the act; call `wake` once it is committed. */
  enqueue(db: Db, mail: OutgoingMail): Promise<void>;
};

type OutboxOptions = DeliveryOptions & { style: MailStyle };

// A notice is worth delivering for three days; a code only as long as it works.
export const noticeTtlMs = 3 * 24 * 60 * 60 * 1000;

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
  return { ...createDelivery(options), enqueue: (db, mail) => enqueue(options, db, mail) };
}

async function enqueue({ clock, keyring, style }: OutboxOptions, db: Db, mail: OutgoingMail): Promise<void> {
  const id = newId();
  const nowMs = clock.now();
  const rendered = { to: mail.to ?? '', ...composeMessage(mail.message, mail.locale, style) };
  await insertOutboxRow(db, {
    id,
    user_id: mail.userId,
    sealed_message: sealMail(keyring, id, rendered),
    created_at: nowMs,
    expires_at: mail.expiresAtMs,
    attempts: 0,
    next_attempt_at: nowMs,
  });
}
