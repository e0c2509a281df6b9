import { createTransport } from 'nodemailer';
import type { MailTransport } from './transport.ts';

const limits = {
  maxConnections: 5,
  maxMessages: 100,
  connectionTimeout: 10_000,
  greetingTimeout: 10_000,
  socketTimeout: 30_000,
};

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
      // The address goes in as a value, never as a header line, so that nothing in it can add a header.
      await transport.sendMail({ from, to: { name: '', address: to }, subject, text, html });
    },
    close: async () => transport.close(),
  };
}
