import { type Config, isLoopback, servesMailbox, smtpServer } from '../config.ts';
import { canonicalEmailAddress } from '../email-address.ts';
import { createSmtpTransport } from '../mail/smtp.ts';
import { DeliveryError } from '../mail/transport.ts';
import type { SmtpServer } from '../smtp-url.ts';
import { type Finding, ok, problem, skipped, warning } from './finding.ts';

// Names that RFC 2606 and RFC 6762 keep from ever being anybody's.
const noDomain = /(?:^|\.)(?:localhost|local|invalid|test|example|internal|example\.(?:com|net|org))$/;

/** Goes through everything with the mail server that comes before a mail, and looks at the sender. */
export async function checkMail(config: Config): Promise<Finding[]> {
  const server = smtpServer(config);
  if (server === undefined) {
    const place = servesMailbox(config) ? 'kept at /dev/mailbox and written to the log' : 'only written to the log';
    return [skipped('mail', `SMTP_URL is not set: mail is ${place}.`)];
  }
  return [await checkServer(server, config.environment.MAIL_FROM), checkSender(config)];
}

async function checkServer(server: SmtpServer, from: string): Promise<Finding> {
  const transport = createSmtpTransport(server, from);
  try {
    await transport.verify();
    return ok('mail', describeServer(server));
  } catch (error) {
    const name = `${server.host}:${server.port}`;
    return problem('mail', {
      what: `The mail server ${name} does not let us in: ${error instanceof DeliveryError ? error.message : 'unknown'}.`,
      why: 'No code arrives: nobody can register, log in by code or reset a password. What waits is kept and tried again.',
      remedy: error instanceof DeliveryError ? remedyFor(error) : 'See the log of the mail server.',
    });
  } finally {
    await transport.close();
  }
}

function describeServer({ host, port, tls, credentials }: SmtpServer): string {
  const encryption = {
    implicit: 'TLS',
    required: 'STARTTLS',
    opportunistic: 'STARTTLS where it is offered',
    off: isLoopback(host) ? 'no TLS, on this machine' : 'no TLS, as SMTP_URL says',
  };
  const login = credentials === undefined ? 'no login' : 'login accepted';
  return `The mail server ${host}:${port} lets us in: greeting, ${encryption[tls]}, ${login}. No mail was sent.`;
}

function remedyFor({ stage, message }: DeliveryError): string {
  if (stage.startsWith('AUTH'))
    return 'Correct user and password in SMTP_URL. Too many tries can get this machine banned there.';
  if (stage === 'STARTTLS')
    return 'The server offers no TLS here: use smtps:// and port 465, or say tls=off where the network itself is safe.';
  if (/CERT|TLS|SSL|SELF_SIGNED|UNABLE_TO|ALTNAME/.test(message)) {
    return 'Correct the host to the name in the certificate; for a private authority set NODE_EXTRA_CA_CERTS to its file.';
  }
  return 'Check host and port in SMTP_URL, and whether a firewall lets this machine out on that port (25 is often closed; 587 and 465 are not).';
}

function checkSender({ isProduction, environment: { MAIL_FROM } }: Config): Finding {
  const address = /<?([^<>\s]+)>?$/.exec(MAIL_FROM)?.[1] ?? '';
  const domain = address.slice(address.lastIndexOf('@') + 1).toLowerCase();
  const isPlausible = canonicalEmailAddress(address) !== undefined && !noDomain.test(domain);
  if (isPlausible) return ok('mail_sender', `MAIL_FROM sends as ${address}.`);
  const trouble = {
    what: `MAIL_FROM is ${address}, of a domain that nobody can have.`,
    why: 'Receivers refuse such mail or call it spam, and replies are lost.',
    remedy: 'Use an address of a domain that this mail server may send for, with SPF and DKIM records in its DNS.',
  };
  return isProduction ? problem('mail_sender', trouble) : warning('mail_sender', trouble);
}
