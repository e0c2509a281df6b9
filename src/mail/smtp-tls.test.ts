import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { after, describe, test } from 'node:test';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import type { SMTPServerOptions } from 'smtp-server';
import { createAuthority } from '../../test/certificates.ts';
import { startMailServer } from '../../test/mail-server.ts';
import { readSmtpUrl } from '../smtp-url.ts';
import { createSmtpTransport } from './smtp.ts';
import { DeliveryError } from './transport.ts';

const authority = createAuthority();
setDefaultCACertificates([...getCACertificates('default'), authority.cert]);
const good = authority.issue(['localhost', '127.0.0.1']);
const password = 'hunter2 / ü+%';
const credentials = `user%40example.com:${encodeURIComponent(password)}`;

const started: { stop(): unknown }[] = [];
after(() => Promise.all(started.map((server) => server.stop())));

/** Starts a server that knows one user. `logins` is what was tried with it. */
async function start(options: SMTPServerOptions) {
  const logins: string[] = [];
  const server = await startMailServer({
    onAuth(auth, _session, done) {
      logins.push(`${auth.username} ${auth.password}`);
      const isRight = auth.username === 'user@example.com' && auth.password === password;
      done(null, isRight ? { user: 'user' } : { message: `no ${auth.password}`, responseCode: 535 });
    },
    ...options,
  });
  started.push(server);
  return { ...server, logins };
}

/** Sends a mail and looks; both must end alike. Returns why they failed. */
async function sendTo(url: string): Promise<DeliveryError | undefined> {
  const transport = createSmtpTransport(
    readSmtpUrl(url, () => 'off'),
    'Latchkey <no-reply@latchkey.test>',
  );
  const mail = { to: 'ada@example.com', subject: 'Hello', text: 'secret', html: '<p>secret</p>' };
  try {
    const [sent, looked] = await Promise.allSettled([transport.send(mail, 'id'), transport.verify()]);
    assert.equal(sent.status, looked.status);
    if (sent.status === 'fulfilled' || looked.status === 'fulfilled') return undefined;
    assert.ok(sent.reason instanceof DeliveryError && looked.reason instanceof DeliveryError, `${sent.reason}`);
    assert.equal(sent.reason.message, looked.reason.message);
    assert.equal(sent.reason.fault, 'server');
    return sent.reason;
  } finally {
    await transport.close();
  }
}

/** Asserts that nothing but the beginnings came to pass. */
function assertNothingSent({ received, tried, logins }: Awaited<ReturnType<typeof start>>): void {
  assert.deepEqual([received, tried, logins], [[], [], []]);
}

describe('mail over smtps://', () => {
  test('is encrypted from the start, and logs in with what is percent-encoded in the URL', async () => {
    const server = await start({ secure: true, authOptional: false, ...good });
    for (const host of ['localhost', '127.0.0.1']) {
      assert.equal(await sendTo(`smtps://${credentials}@${host}:${server.port}`), undefined);
    }
    assert.deepEqual(
      server.received.map(({ to, isEncrypted }) => [to, isEncrypted]),
      [
        [['ada@example.com'], true],
        [['ada@example.com'], true],
      ],
    );
    assert.equal(server.logins.length, 4);
  });

  test('is not sent to a server that speaks without TLS', async () => {
    const server = await start({});
    assert.match((await sendTo(`smtps://${credentials}@localhost:${server.port}`))?.message ?? '', /^CONN failed: E/);
    assertNothingSent(server);
  });
});

describe('mail over smtp:// with STARTTLS', () => {
  test('is encrypted where it is required and where it is offered', async () => {
    const server = await start(good);
    for (const rest of ['?tls=required', '?tls=opportunistic']) {
      assert.equal(await sendTo(`smtp://localhost:${server.port}${rest}`), undefined);
    }
    assert.equal(await sendTo(`smtp://${credentials}@127.0.0.1:${server.port}`), undefined);
    assert.deepEqual(
      server.received.map(({ isEncrypted }) => isEncrypted),
      [true, true, true],
    );
  });

  test('is not sent, and no password either, to a server that does not offer it but a login in the open', async () => {
    const server = await start({ allowInsecureAuth: true });
    for (const url of [
      `smtp://localhost:${server.port}?tls=required`,
      `smtp://${credentials}@localhost:${server.port}`,
    ]) {
      assert.match((await sendTo(url))?.message ?? '', /^STARTTLS failed: the server replied 5\d\d/);
    }
    assertNothingSent(server);
  });

  test('is not sent, and no password either, where somebody in between takes the offer away', async () => {
    const server = await start({ allowInsecureAuth: true, ...good });
    for (const answer of ['454 4.7.0 TLS not available', '220 go ahead', '250 fine']) {
      const between = await startStripping(server.port, answer);
      for (const rest of ['?tls=required', '']) {
        const url = `smtp://${rest === '' ? `${credentials}@` : ''}localhost:${between.port}${rest}`;
        assert.ok(await sendTo(url), answer);
      }
      assert.doesNotMatch(between.heard(), /AUTH|MAIL|ada@|secret/i);
    }
    assertNothingSent(server);
  });

  test('goes unencrypted where the URL says off, and where the offer is merely welcome and there is none', async () => {
    const plain = await start({ allowInsecureAuth: true });
    assert.equal(await sendTo(`smtp://localhost:${plain.port}?tls=opportunistic`), undefined);
    assert.equal(await sendTo(`smtp://${credentials}@localhost:${plain.port}?tls=off`), undefined);
    assert.equal(plain.logins.length, 2);
    const offering = await start(good);
    assert.equal(await sendTo(`smtp://localhost:${offering.port}?tls=off`), undefined);
    const between = await startStripping(offering.port, '454 4.7.0 TLS not available');
    assert.equal(await sendTo(`smtp://localhost:${between.port}?tls=opportunistic`), undefined);
    const sent = [...plain.received, ...offering.received];
    assert.deepEqual(
      sent.map(({ isEncrypted }) => isEncrypted),
      [false, false, false, false],
    );
  });
});

describe('a mail server', () => {
  const wrong: Record<string, [RegExp, SMTPServerOptions]> = {
    'that another authority vouches for': [/UNABLE_TO_VERIFY_LEAF_SIGNATURE/, createAuthority().issue(['localhost'])],
    'with the name of another': [/ERR_TLS_CERT_ALTNAME_INVALID/, authority.issue(['mail.example.com'])],
    'with a certificate of yesterday': [
      /CERT_HAS_EXPIRED/,
      authority.issue(['localhost'], { untilMs: Date.now() - 1 }),
    ],
    'that speaks TLS 1.1 at most': [
      /PROTOCOL/,
      { ...good, minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' },
    ],
  };
  for (const [name, [reason, options]] of Object.entries(wrong)) {
    test(`${name} gets no mail and no password, whatever the environment says`, async () => {
      process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
      try {
        const [implicit, starting] = [await start({ secure: true, ...options }), await start(options)];
        const urls = [
          `smtps://${credentials}@localhost:${implicit.port}`,
          `smtp://${credentials}@localhost:${starting.port}`,
          `smtp://localhost:${starting.port}?tls=opportunistic`,
        ];
        for (const url of urls) assert.match((await sendTo(url))?.message ?? '', reason, url);
        assertNothingSent(implicit);
        assertNothingSent(starting);
      } finally {
        delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
      }
    });
  }

  test('that refuses the password gets no mail, and the password is not repeated', async () => {
    const server = await start({ secure: true, authOptional: false, ...good });
    const error = await sendTo(`smtps://user:hunter2@localhost:${server.port}`);
    assert.equal(error?.message, 'AUTH PLAIN failed: the server replied 535');
    assert.equal(error?.isPermanent, true);
    assert.doesNotMatch(`${error?.stack}${JSON.stringify(error)}`, /hunter2/);
    assert.deepEqual(server.tried, []);
  });

  test('is reached by an IPv6 address', async () => {
    const server = await start({});
    const relay = createServer((socket) => {
      const onward = connect(server.port, '127.0.0.1');
      socket.pipe(onward).pipe(socket);
      for (const end of [socket, onward]) end.on('error', () => {});
    }).listen(0, '::1');
    await once(relay, 'listening');
    assert.equal(await sendTo(`smtp://[::1]:${(relay.address() as AddressInfo).port}`), undefined);
    assert.equal(server.received.length, 1);
    relay.close();
  });
});

/** Sits between client and server, hides STARTTLS and gives an answer of its own to whoever asks for it anyway. */
async function startStripping(port: number, answer: string) {
  let heard = '';
  const relay = createServer((client) => {
    const onward = connect(port, '127.0.0.1');
    for (const end of [client, onward])
      end.on('error', () => {}).on('close', () => [client, onward].map((s) => s.destroy()));
    onward.on('data', (bytes) => client.write(bytes.toString('latin1').replace('STARTTLS', 'XSTRIPPD'), 'latin1'));
    client.on('data', (bytes) => {
      heard += bytes.toString('latin1');
      if (/^STARTTLS/i.test(bytes.toString('latin1'))) client.write(`${answer}\r\n`);
      else onward.write(bytes);
    });
  }).listen(0, '127.0.0.1');
  await once(relay, 'listening');
  started.push({ stop: () => relay.close() });
  return { port: (relay.address() as AddressInfo).port, heard: () => heard };
}
