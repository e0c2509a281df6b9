import { type Config, isLoopback, servesMailbox } from './config.ts';

/** What the start prints in development: where to go, and what would be dangerous outside it. */
export function renderAnnouncement(config: Config): string {
  const { PUBLIC_URL, DOCS, HOST, SMTP_URL } = config.environment;
  const lines = [`Latchkey is ready at ${PUBLIC_URL}`];
  if (DOCS === 'on') lines.push(`documentation       ${PUBLIC_URL}/docs`);
  if (servesMailbox(config)) {
    lines.push(`development mailbox ${PUBLIC_URL}/dev/mailbox`);
    if (!isLoopback(HOST)) {
      lines.push(
        '',
        `WARNING: HOST is ${HOST}, so whoever reaches this port can read every code in the development mailbox.`,
        'If this is not your own machine, NODE_ENV=production is missing.',
      );
    }
  } else if (SMTP_URL === undefined) {
    lines.push(
      '',
      'WARNING: mail is only written to this log. The development mailbox is absent because PUBLIC_URL does not name',
      'localhost. If this is a public service, NODE_ENV=production is missing.',
    );
  }
  return `\n${lines.map((line) => `  ${line}`.trimEnd()).join('\n')}\n`;
}
