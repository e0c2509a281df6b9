import type { Mail, MailTransport } from './transport.ts';

const maxMails = 100;

/** A mail that the development mailbox holds. */
export type MailboxItem = Mail & { sentAtMs: number };

/** A transport that keeps mail in memory for people and tests to read. Never used in production. */
export type Mailbox = MailTransport & {
  /** The newest 100 mails, newest first. */
  list(): readonly MailboxItem[];
  /** How many mails were sent so far, also those that are no longer kept. */
  sent(): number;
};

/** Creates a mailbox. `announce` is told of each mail; in development it writes the text to the log. */
export function createMailbox(now: () => number, announce: (mail: Mail) => void): Mailbox {
  const items: MailboxItem[] = [];
  let count = 0;
  return {
    async send(mail, _id, onLetIn) {
      onLetIn?.();
      count += 1;
      items.unshift({ ...mail, sentAtMs: now() });
      items.splice(maxMails);
      announce(mail);
    },
    list: () => items,
    sent: () => count,
    verify: async () => {},
    close: async () => {},
  };
}
