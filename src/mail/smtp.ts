import { connect, type Socket } from 'node:net';
import { domainToASCII } from 'node:url';
import { createTransport, type SMTPTransportOptions } from 'nodemailer';
import type { SmtpServer, SmtpTls } from '../smtp-url.ts';
import { describeSmtpFailure } from './smtp-failure.ts';
import type { MailTransport } from './transport.ts';

/** How long the mail server may take. */
type SmtpLimits = {
  /** To accept a connection and finish the greeting and TLS. */
  connectionMs: number;
  /** To say anything at all. */
  silenceMs: number;
  /**
   * To take one message, from the wait for a connection to the last reply: a server that is slow at every step, or
   * trickles its replies, is given up. The lease of the outbox is longer.
   */
  deliveryMs: number;
  /** To go through a look, with the login. */
  verifyMs: number;
  /** Without a message, before we close the connection: shorter than the pause between looks, which need one too. */
  idleMs: number;
};

const usualLimits: SmtpLimits = {
  connectionMs: 10_000,
  silenceMs: 30_000,
  deliveryMs: 60_000,
  verifyMs: 15_000,
  idleMs: 20_000,
};

const pool = {
  pool: true,
  // As many as the outbox delivers at once, so that none waits for a connection behind a slow one.
  maxConnections: 10,
  maxMessages: 100,
  // For a connection that the server closed while it was idle. Every other repetition is the outbox's.
  maxRequeues: 1,
} as const;

const maxReplyBytes = 64 * 1024;

const encryption: Record<SmtpTls, SMTPTransportOptions> = {
  implicit: { secure: true },
  required: { secure: false, requireTLS: true },
  opportunistic: { secure: false, opportunisticTLS: true },
  off: { secure: false, ignoreTLS: true },
};

/** Sends mail over SMTP. */
export function createSmtpTransport(server: SmtpServer, from: string, limits = usualLimits): MailTransport {
  const sockets = new Set<Socket>();
  const options = createOptions(server, limits, sockets);
  const sender = readSender(from);
  const transport = createTransport({ ...options, ...pool, idleTimeout: limits.idleMs });
  // By Message-ID: what is told when a connection stands with the login done, and the message is on its way.
  const listeners = new Map<string | undefined, () => void>();
  transport.use('stream', (mail, done) => {
    mail.message.processFunc((input) => {
      listeners.get(mail.data.messageId)?.();
      return input;
    });
    done();
  });

  return {
    async send({ to, subject, text, html }, id, onLetIn) {
      const messageId = `<${id}@${sender.domain}>`;
      const signal = AbortSignal.timeout(limits.deliveryMs);
      let hasBegun = false;
      listeners.set(messageId, () => {
        hasBegun = true;
        onLetIn?.();
      });
      try {
        // The address goes in as a value, never as a header line, so that nothing in it can add a header.
        const recipient = { name: '', address: to };
        await transport.sendMail({ from: sender.from, to: recipient, subject, text, html, messageId, signal });
      } catch (error) {
        throw describeSmtpFailure(error, hasBegun);
      } finally {
        listeners.delete(messageId);
      }
    },

    async verify() {
      let socket: Socket | undefined;
      const getSocket: GetSocket = (_options, done) => {
        socket = openSocket(server, limits, sockets, done);
        destroyAfter(socket, limits.verifyMs);
      };
      try {
        await createTransport({ ...options, getSocket }).verify();
      } catch (error) {
        socket?.destroy();
        throw describeSmtpFailure(error, false);
      }
    },

    async close() {
      // A delivery that is under way fails, and the outbox gives it to another instance.
      transport.close({ force: true });
      for (const socket of sockets) socket.destroy(new Error('the transport was closed'));
    },
  };
}

/** Every option is ours. None comes from the URL, whose parameters nodemailer would take for options of its own. */
function createOptions(server: SmtpServer, limits: SmtpLimits, sockets: Set<Socket>): SMTPTransportOptions {
  const { host, port, tls, credentials } = server;
  return {
    host,
    port,
    ...encryption[tls],
    ...(credentials === undefined ? {} : { auth: { user: credentials.user, pass: credentials.password } }),
    // Said here because the environment can weaken what Node does by itself.
    tls: { minVersion: 'TLSv1.2', rejectUnauthorized: true },
    connectionTimeout: limits.connectionMs,
    greetingTimeout: limits.connectionMs,
    socketTimeout: limits.silenceMs,
    maxResponseSize: maxReplyBytes,
    disableFileAccess: true,
    disableUrlAccess: true,
    getSocket: (_options, done) => void openSocket(server, limits, sockets, done),
  };
}

type GetSocket = NonNullable<SMTPTransportOptions['getSocket']>;

/**
 * Connects by the system's names. Nodemailer asks DNS by itself, for `localhost` too, where the answer could lead
 * the unencrypted mail anywhere, and keeps an answer for minutes after the server has moved.
 */
function openSocket(
  { host, port }: SmtpServer,
  { connectionMs }: SmtpLimits,
  sockets: Set<Socket>,
  done: Parameters<GetSocket>[1],
): Socket {
  const socket = connect({ host, port });
  sockets.add(socket);
  const timer = destroyAfter(socket, connectionMs);
  socket.once('close', () => sockets.delete(socket));
  socket.once('error', done).once('connect', () => {
    clearTimeout(timer);
    socket.removeListener('error', done);
    done(null, { connection: socket });
  });
  // Under TLS nobody else listens, and an error that nobody hears would end the process.
  socket.on('error', () => {});
  return socket;
}

/** Ends a socket that is still open after this long, whatever trickles through it. */
function destroyAfter(socket: Socket, limitMs: number): NodeJS.Timeout {
  const error = Object.assign(new Error('the connection took too long'), { code: 'ETIMEDOUT', syscall: 'connect' });
  const timer = setTimeout(() => socket.destroy(error), limitMs);
  socket.once('close', () => clearTimeout(timer));
  return timer;
}

/** Takes MAIL_FROM apart, which is `name <address>` or an address alone. */
function readSender(from: string): { from: { name: string; address: string }; domain: string } {
  const { name = '', address = from } = /^(?:(?<name>.*) )?<?(?<address>[^<>]+)>?$/.exec(from)?.groups ?? {};
  return { from: { name, address }, domain: domainToASCII(address.slice(address.lastIndexOf('@') + 1)) || 'localhost' };
}
