import { createTransport } from 'nodemailer';
import type { MailTransport } from './transport.ts';

const limits = {
  // As many as the outbox delivers at once, so that none waits for a connection behind a slow one.
  maxConnections: 10,
  maxMessages: 100,
  connectionTimeout: 10_000,
  greetingTimeout: 10_000,
  socketTimeout: 30_000,
};
// The time-outs above bound each step; a server that is slow at every one of them, or trickles its replies,
// is given up after this long. The lease of the outbox is longer.
const deliveryLimitMs = 60_000;

/** Sends mail over SMTP (`smtp://` with STARTTLS where offered, `smtps://` with TLS from the start). */
export function createSmtpTransport(smtpUrl: string, from: string): MailTransport {
  const transport = createTransport({
    ...limits,
    url: smtpUrl,
    pool: true,
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  return {
    async send({ to, subject, text, html }) {
      const signal = AbortSignal.timeout(deliveryLimitMs);
      // The address goes in as a value, never as a header line, so that nothing in it can add a header.
      await transport.sendMail({ from, to: { name: '', address: to }, subject, text, html, signal });
    },
    // A delivery that is under way fails, and the outbox gives it to another instance.
    close: async () => transport.close({ force: true }),
  };
}
