import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { goodPassword, newEmail, sendCode } from './accounts.ts';
import { call } from './client.ts';
import { type MailServer, readHeaders, reply, startMailServer } from './mail-server.ts';
import { backends, type System, startSystem } from './system.ts';
import { until } from './until.ts';

for (const backend of backends) {
  describe(`mail over SMTP (${backend})`, () => {
    let office: MailServer;
    let system: System;

    before(async () => {
      office = await startMailServer({
        // One kind of recipient gets no answer, another is busy for ever.
        onRcptTo({ address }, _session, done) {
          if (address.startsWith('slow')) return;
          done(address.startsWith('refused') ? reply(450) : null);
        },
      });
      system = await startSystem(backend, { SMTP_URL: office.url, MAIL_FROM: 'Latchkey <no-reply@latchkey.test>' });
    });
    after(async () => {
      await system?.close();
      await office?.stop();
    });

    const mailsTo = (email: string) => office.received.filter(({ to }) => to.includes(email));
    const ask = (email: string) => sendCode(system, email, 'registration');

    test('arrives once, with one recipient in the envelope and in the header', async () => {
      const email = newEmail();
      await ask(email);
      await Promise.all([system.deps.outbox.deliverDue(), system.deps.outbox.deliverDue()]);
      await system.deps.outbox.deliverDue();
      const [mail, ...more] = mailsTo(email);
      assert.deepEqual(more, []);
      assert.deepEqual([mail?.from, mail?.to], ['no-reply@latchkey.test', [email]]);
      const headers = readHeaders(mail?.data ?? '');
      assert.deepEqual(headers.get('to'), [email]);
      assert.deepEqual(headers.get('from'), ['Latchkey <no-reply@latchkey.test>']);
      assert.match(headers.get('subject')?.join() ?? '', /^[0-9A-Z]{6} is your code to create your account$/);
      for (const absent of ['cc', 'bcc', 'reply-to']) assert.equal(headers.has(absent), false);
      assert.deepEqual(await readRows(system), []);
    });

    test('has no header and no recipient from what a user wrote, whatever that is', async () => {
      const before = office.tried.length;
      const addresses = [
        `a@example.com\r\nBcc: evil@example.com`,
        'a@example.com\nRCPT TO:<evil@example.com>',
        'a@example.com,evil@example.com',
        'a@example.com> <evil@example.com',
        '<a@example.com>',
        '"a b"@example.com',
        'a@example.com\0',
        'evil@example.com a@example.com',
        '@evil.example:a@example.com',
        'a%evil.example@b@example.com',
      ];
      for (const address of addresses) assert.equal((await ask(address)).status, 422, JSON.stringify(address));
      await system.deps.outbox.deliverDue();
      assert.equal(office.tried.length, before);

      // What else of a user's reaches a mail: the name and the locale of the account, the agent of the request.
      const email = newEmail();
      const evil = 'Bcc: evil@example.com =?utf-8?q?=0D=0ABcc:_evil@example.com?=';
      const token = await register(email, { name: evil, locale: 'en' });
      await call(system, {
        method: 'POST',
        path: '/auth/login',
        body: { email, password: goodPassword },
        headers: { 'user-agent': `${evil}/1.0 (${evil})` },
        remoteAddress: '203.0.113.9',
      });
      await call(system, {
        method: 'PUT',
        path: '/users/me/password',
        body: { current_password: goodPassword, new_password: `${goodPassword} new` },
        token,
      });
      await system.deps.outbox.deliverDue();
      const mails = mailsTo(email);
      assert.ok(mails.length >= 3, `only ${mails.length} mails`);
      for (const { to, data } of mails) {
        assert.deepEqual(to, [email]);
        const names = [...readHeaders(data).keys()].sort();
        const usual = ['content-type', 'date', 'from', 'message-id', 'mime-version', 'subject', 'to'];
        assert.deepEqual(names, usual);
      }
      assert.deepEqual(
        office.tried.filter((address) => address.includes('evil')),
        [],
      );
    });

    test('to a refused recipient is tried again later, until it expires', async () => {
      const email = `refused-${newEmail()}`;
      await ask(email);
      // Seconds to wait, and the tries made by then. A code lives for five minutes.
      for (const [waitSeconds, tries] of [
        [0, 1],
        [1.999, 1],
        // A pause may be a quarter longer.
        [0.501, 2],
        [5, 3],
        [292.499, 4],
        [0.001, 4],
      ] as const) {
        system.clock.advanceSeconds(waitSeconds);
        await system.deps.outbox.deliverDue();
        assert.equal(office.tried.filter((address) => address === email).length, tries);
      }
      system.clock.advanceSeconds(60);
      await system.deps.outbox.deliverDue();
      assert.deepEqual(await readRows(system), []);
      assert.deepEqual(mailsTo(email), []);
    });

    test('to a slow recipient holds up no other', async () => {
      const [slow, quick] = [`slow-${newEmail()}`, newEmail()];
      await ask(slow);
      system.deps.outbox.wake();
      await until(() => office.tried.includes(slow));
      await ask(quick);
      system.deps.outbox.wake();
      await until(() => mailsTo(quick).length === 1);
      assert.deepEqual(mailsTo(slow), []);
    });

    test('that hangs is broken off when the outbox closes, so that nobody sends it twice', async () => {
      assert.ok(office.connections() > 0);
      await system.deps.outbox.close();
      await until(() => office.connections() === 0);
      const rows = await readRows(system);
      assert.deepEqual(
        rows.map((row) => row.next_attempt_at),
        [system.clock.now()],
      );
    });

    /** Registers with the code that the mail server got. */
    async function register(email: string, fields: Record<string, unknown>): Promise<string> {
      await ask(email);
      await system.deps.outbox.deliverDue();
      const code = /^Subject: ([0-9A-Z]{6})/m.exec(mailsTo(email)[0]?.data ?? '')?.[1];
      const proof = { email, purpose: 'registration', code };
      const { body } = await call(system, { method: 'POST', path: '/auth/verify-code', body: proof });
      const account = { verification_token: body.verification_token, password: goodPassword, ...fields };
      const reply = await call(system, { method: 'POST', path: '/auth/register', body: account });
      assert.equal(reply.status, 201, reply.text);
      return reply.body.access_token;
    }
  });
}

function readRows({ deps }: System) {
  return deps.db.selectFrom('outbox').selectAll().execute();
}
