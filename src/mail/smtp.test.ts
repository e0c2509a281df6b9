import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SMTPServerOptions } from 'smtp-server';
import { type MailServer, readHeaders, reply, startMailServer } from '../../test/mail-server.ts';
import { inWorld, newMail, openOutbox, readRows } from '../../test/outbox.ts';
import { startScriptedMailServer } from '../../test/scripted-mail-server.ts';
import { until } from '../../test/until.ts';
import { readSmtpUrl } from '../smtp-url.ts';
import type { DeliveryEvent } from './attempts.ts';
import type { Outbox } from './outbox.ts';
import { createSmtpTransport } from './smtp.ts';
import type { MailTransport } from './transport.ts';

const from = 'Latchkey <no-reply@latchkey.test>';
const mail = { to: 'ada@example.com', subject: 'Hello', text: 'Hello', html: '<p>Hello</p>' };
const opened: (() => Promise<void>)[] = [];
after(() => Promise.all(opened.map((close) => close())));

async function start(options: SMTPServerOptions = {}): Promise<MailServer> {
  const server = await startMailServer(options);
  opened.push(server.stop);
  return server;
}

function openTransport(url: string, sender = from): MailTransport {
  const transport = createSmtpTransport(
    readSmtpUrl(url, () => 'off'),
    sender,
  );
  opened.push(transport.close);
  return transport;
}

type Office = {
  outbox: Outbox;
  events: DeliveryEvent[];
  /** Waits a moment of the clock between rounds until nothing is left. */
  drain(): Promise<void>;
};

/** Writes mails to so many recipients into an outbox that delivers to this server. */
async function withMails(url: string, count: number, check: (office: Office, recipients: string[]) => Promise<void>) {
  await inWorld('sqlite+memory', async (world) => {
    const { outbox, events } = openOutbox(world, openTransport(url));
    const recipients = Array.from({ length: count }, (_, index) => `user-${index}@example.com`).sort();
    for (const to of recipients) await outbox.enqueue(world.db, newMail(world, { to }));
    const drain = async () => {
      for (let round = 0; round < 100 && (await readRows(world.db)).length > 0; round += 1) {
        await outbox.deliverDue();
        world.clock.advanceSeconds(1);
      }
      assert.deepEqual(await readRows(world.db), []);
    };
    await check({ outbox, events, drain }, recipients);
  });
}

const recipientsOf = (server: MailServer) => server.received.flatMap(({ to }) => to).sort();

describe('a message', () => {
  test('has the Message-ID of its row at every try, in the domain of the sender', async () => {
    const server = await start();
    const transport = openTransport(server.url, 'Jürgen <no-reply@bücher.example>');
    for (const id of ['one', 'one', 'two']) await transport.send(mail, id);
    assert.deepEqual(
      server.received.map(({ data }) => readHeaders(data).get('message-id')),
      [['<one@xn--bcher-kva.example>'], ['<one@xn--bcher-kva.example>'], ['<two@xn--bcher-kva.example>']],
    );
  });

  test('has the headers that we give it and no other, whatever is in them', async () => {
    const server = await start();
    const evil = 'x\r\nBcc: evil@example.com\r\n\r\n<evil> =?utf-8?q?=0D=0ABcc:_evil@example.com?=';
    const transport = openTransport(server.url, 'Bcc: evil;, (x) =?utf-8?q?=0D=0ABcc:_e?= Ü <no-reply@latchkey.test>');
    await transport.send({ to: 'ada@example.com', subject: evil, text: evil, html: evil }, 'id');
    for (const to of ['ada@example.com\r\nBcc: evil@example.com', 'ada@example.com> RCPT TO:<evil@example.com']) {
      await transport.send({ ...mail, to }, 'id').catch(() => {});
    }
    assert.deepEqual(
      server.tried.filter((address) => address.startsWith('evil')),
      [],
    );
    for (const { data, from: sender } of server.received) {
      const usual = ['content-type', 'date', 'from', 'message-id', 'mime-version', 'subject', 'to'];
      assert.deepEqual([...readHeaders(data).keys()].sort(), usual);
      assert.equal(sender, 'no-reply@latchkey.test');
    }
    assert.ok(server.received.length > 0);
  });
});

describe('a mail server', () => {
  test('that is slow at every step gets each mail once, ten at a time over connections that are used again', async () => {
    const pause = (done: (error?: Error | null) => void) => void setTimeout(() => done(), 20);
    const server = await start({
      onConnect: (_session, done) => pause(done),
      onMailFrom: (_address, _session, done) => pause(done),
      onRcptTo: (_address, _session, done) => pause(done),
      onData: (_stream, _session, done) => pause(done),
    });
    await withMails(server.url, 50, async ({ events, drain }, recipients) => {
      await drain();
      assert.deepEqual(recipientsOf(server), recipients);
      assert.deepEqual(events, []);
      assert.ok(server.connected() <= 10, `${server.connected()} connections`);
    });
  });

  test('that takes two connections at most gets each mail once, without being taken for away', async () => {
    const server = await start({
      maxClients: 2,
      onData: (_stream, _session, done) => void setTimeout(done, 10),
    });
    await withMails(server.url, 40, async ({ events, drain }, recipients) => {
      await drain();
      assert.deepEqual(recipientsOf(server), recipients);
      assert.deepEqual(events, []);
    });
  });

  test('that closes connections as soon as they are idle gets each mail once, and nobody is alarmed', async () => {
    const server = await start({ socketTimeout: 400 });
    await withMails(server.url, 10, async ({ events, drain }) => {
      await drain();
      assert.deepEqual(events, []);
    });
    const transport = openTransport(server.url);
    for (let round = 0; round < 8; round += 1) {
      // Around the moment at which the server closes, so that a mail meets every state of the connection.
      await sleep(393 + 2 * round);
      await transport.send({ ...mail, to: `round-${round}@example.com` }, `round-${round}`);
    }
    const rounds = recipientsOf(server).filter((address) => address.startsWith('round'));
    assert.equal(rounds.length, 8);
    assert.equal(new Set(rounds).size, 8);
  });

  test('that closes a connection at the moment at which a mail comes gets that mail over another one', async () => {
    const server = await startScriptedMailServer({ MAIL: (times) => (times === 1 ? undefined : { act: 'cut' }) });
    const transport = openTransport(server.url);
    for (const id of ['one', 'two', 'three']) await transport.send(mail, id);
    assert.equal(server.steps.filter((step) => step === 'message').length, 3);
    assert.equal(server.steps.filter((step) => step === 'greeting').length, 3);
    await transport.close();
    server.stop();
  });

  test('that wants to see a stranger twice gets each mail once, at the second try', async () => {
    const seen = new Set<string>();
    const server = await start({
      onRcptTo({ address }, _session, done) {
        done(seen.has(address) ? null : reply(450, `4.2.0 <${address}> is greylisted`));
        seen.add(address);
      },
    });
    await withMails(server.url, 20, async ({ outbox, events, drain }, recipients) => {
      await outbox.deliverDue();
      assert.deepEqual(server.received, []);
      await drain();
      assert.deepEqual(recipientsOf(server), recipients);
      assert.deepEqual(
        events.map(({ type }) => type),
        Array(20).fill('postponed'),
      );
    });
  });

  test('that dies in the middle of a mail gets it once when it is back, as the mail that it was', async () => {
    const dying = await startScriptedMailServer({ message: { act: 'cut' } });
    let server: MailServer | undefined;
    await withMails(dying.url, 1, async ({ outbox, events, drain }) => {
      await outbox.deliverDue();
      assert.deepEqual(
        events.map((event) => event.type === 'postponed' && event.attempts),
        [1],
      );
      const id = events[0]?.type === 'postponed' ? events[0].id : '';
      dying.stop();
      server = await startMailServer({}, dying.port);
      opened.push(server.stop);
      await drain();
      assert.deepEqual(readHeaders(server.received[0]?.data ?? '').get('message-id'), [`<${id}@latchkey.test>`]);
      assert.equal(server.received.length, 1);
    });
  });

  test('that stands still in the middle of one mail gets the others meanwhile', async () => {
    const server = await start({
      onRcptTo({ address }, _session, done) {
        if (!address.startsWith('user-0')) done();
      },
    });
    await withMails(server.url, 30, async ({ outbox }) => {
      outbox.wake();
      await until(() => server.received.length === 29);
      await outbox.close();
      await until(() => server.connections() === 0);
      assert.equal(server.received.length, 29);
    });
  });
});
