import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { SMTPServer, type SMTPServerOptions } from 'smtp-server';

/** A mail as the server got it. */
type ReceivedMail = { from: string; to: string[]; data: string; isEncrypted: boolean };

/** A real mail server. */
export type MailServer = {
  port: number;
  /** Where it listens, unencrypted and without a password. */
  url: string;
  received: ReceivedMail[];
  /** Recipients tried so far, refused ones too. */
  tried: string[];
  connections(): number;
  /** Connections made so far. */
  connected(): number;
  /** Ends the server and every connection to it. */
  stop(): Promise<void>;
};

/**
 * Starts a mail server that takes everything, unless the options say otherwise: without STARTTLS, or with it where
 * they bring a certificate.
 */
export async function startMailServer(options: SMTPServerOptions = {}, port = 0): Promise<MailServer> {
  const [received, tried]: [ReceivedMail[], string[]] = [[], []];
  let connected = 0;
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: options.cert === undefined ? ['STARTTLS'] : [],
    disableReverseLookup: true,
    closeTimeout: 1,
    ...options,
    onConnect(session, done) {
      connected += 1;
      if (options.onConnect === undefined) return done();
      options.onConnect.call(server, session, done);
    },
    onRcptTo(address, session, done) {
      tried.push(address.address);
      if (options.onRcptTo === undefined) return done();
      options.onRcptTo.call(server, address, session, done);
    },
    onData(stream, session, done) {
      let data = '';
      stream.setEncoding('utf8').on('data', (chunk: string) => {
        data += chunk;
      });
      stream.on('end', () => {
        const { mailFrom, rcptTo } = session.envelope;
        const from = mailFrom === false ? '' : mailFrom.address;
        const accept = () => {
          received.push({ from, to: rcptTo.map(({ address }) => address), data, isEncrypted: session.secure });
          done();
        };
        if (options.onData === undefined) return accept();
        options.onData.call(server, stream, session, (error) => (error ? done(error) : accept()));
      });
    },
  });
  server.on('error', () => {});
  server.listen(port, '127.0.0.1');
  await once(server.server, 'listening');
  const address = server.server.address() as AddressInfo;
  return {
    port: address.port,
    url: `smtp://127.0.0.1:${address.port}`,
    received,
    tried,
    connections: () => server.connections.size,
    connected: () => connected,
    stop: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

/** What a server's handler refuses with. The text may be anything; the service must not repeat it. */
export function reply(responseCode: number, text = 'no'): Error {
  return Object.assign(new Error(text), { responseCode });
}

/** Reads the headers of a message: names in lower case, each with all its values, folded lines joined. */
export function readHeaders(data: string): Map<string, string[]> {
  const headers = new Map<string, string[]>();
  const head = data.slice(0, data.indexOf('\r\n\r\n')).replaceAll(/\r\n[ \t]+/g, ' ');
  for (const line of head.split('\r\n')) {
    const name = line.slice(0, line.indexOf(':')).toLowerCase();
    headers.set(name, [...(headers.get(name) ?? []), line.slice(line.indexOf(':') + 1).trim()]);
  }
  return headers;
}
