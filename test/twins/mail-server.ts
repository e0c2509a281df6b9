import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { SMTPServer } from 'smtp-server';
import type { Mailbox, MailboxItem } from '../../src/mail/mailbox.ts';

/** The one mail server of several instances, with what arrived in the form of the development mailbox. */
export type MailServer = {
  url: string;
  mailbox: Mailbox;
  /** The sender of each envelope, in the order of arrival. */
  senders: readonly string[];
  close(): Promise<void>;
};

/** Opens a mail server that accepts everything. */
export async function openMailServer(): Promise<MailServer> {
  const items: MailboxItem[] = [];
  const senders: string[] = [];
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: ['STARTTLS'],
    onData(stream, { envelope }, done) {
      let text = '';
      stream.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      stream.on('end', () => {
        // A subject that fits into a line is sent as it is; the rest is kept as it came.
        const subject = /^Subject: (.*?)\r?$/m.exec(text)?.[1] ?? '';
        for (const { address: to } of envelope.rcptTo) {
          items.unshift({ to, subject, text, html: '', sentAtMs: Date.now() });
        }
        senders.push(envelope.mailFrom === false ? '' : envelope.mailFrom.address);
        done();
      });
    },
  });
  // An instance that is killed resets its connections.
  server.on('error', () => {});
  server.listen(0, '127.0.0.1');
  await once(server.server, 'listening');
  const { port } = server.server.address() as AddressInfo;
  return {
    url: `smtp://127.0.0.1:${port}`,
    mailbox: {
      send: async () => {},
      list: () => items,
      sent: () => items.length,
      verify: async () => {},
      close: async () => {},
    },
    senders,
    close: () => new Promise((resolve) => server.close(() => resolve())),
  };
}
