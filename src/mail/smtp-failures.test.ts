import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type SmtpAct, type SmtpStep, startScriptedMailServer } from '../../test/scripted-mail-server.ts';
import { readSmtpUrl } from '../smtp-url.ts';
import { createSmtpTransport } from './smtp.ts';
import { DeliveryError, type DeliveryFault } from './transport.ts';

const mail = { to: 'canary-recipient@example.com', subject: 'K7M2QX is', text: 'K7M2QX', html: 'K7M2QX' };
const password = 'canary-password';
// Whatever a server might repeat of what it was told.
const canary = `<${mail.to}> ${mail.subject} ${password} ${Buffer.from(password).toString('base64')}`;
const limits = { connectionMs: 150, silenceMs: 150, deliveryMs: 600, verifyMs: 300, idleMs: 1_000 };

/** Sends one mail to a server that acts by the script, and returns why it was not accepted. */
async function failWith(step: SmtpStep, act: SmtpAct, isPipelining = true): Promise<DeliveryError> {
  const server = await startScriptedMailServer({
    ...(isPipelining ? {} : { EHLO: '250-hello\r\n250 AUTH PLAIN' }),
    ...(step === 'HELO' ? { EHLO: '500 what?' } : {}),
    [step]: act,
  });
  const url = `smtp://canary-user:${password}@127.0.0.1:${server.port}?tls=off`;
  const transport = createSmtpTransport(
    readSmtpUrl(url, () => 'off'),
    'no-reply@latchkey.test',
    limits,
  );
  try {
    await transport.send(mail, 'id');
  } catch (error) {
    assert.ok(error instanceof DeliveryError, String(error));
    assert.doesNotMatch(`${error.stack}${JSON.stringify(error)}`, /canary|K7M2QX|Y2FuYXJ5/);
    assert.equal(error.cause, undefined);
    return error;
  } finally {
    await transport.close();
    server.stop();
  }
  throw new Error('the mail was accepted');
}

describe('a reply of the mail server', () => {
  const table: [SmtpStep, string, DeliveryFault, string][] = [
    ['greeting', `554 5.7.1 ${canary}`, 'server', 'CONN failed: the server replied 554 5.7.1'],
    ['greeting', `421 4.3.2 ${canary}`, 'server', 'CONN failed: the server replied 421 4.3.2'],
    ['HELO', `550 ${canary}`, 'server', 'HELO failed: the server replied 550'],
    ['AUTH', `535 5.7.8 ${canary}`, 'server', 'AUTH PLAIN failed: the server replied 535 5.7.8'],
    ['AUTH', `454 4.7.0 ${canary}`, 'server', 'AUTH PLAIN failed: the server replied 454 4.7.0'],
    ['MAIL', `451 4.3.0 ${canary}`, 'server', 'MAIL FROM failed: the server replied 451 4.3.0'],
    ['MAIL', `550 5.1.8 ${canary}`, 'server', 'MAIL FROM failed: the server replied 550 5.1.8'],
    ['MAIL', `530 5.7.0 ${canary}`, 'server', 'MAIL FROM failed: the server replied 530 5.7.0'],
    ['RCPT', `450 4.2.0 ${canary}`, 'mail', 'RCPT TO failed: the server replied 450 4.2.0'],
    ['RCPT', `503 5.5.1 ${canary}`, 'mail', 'RCPT TO failed: the server replied 503 5.5.1'],
    ['RCPT', `550 ${canary}`, 'recipient', 'RCPT TO failed: the server replied 550'],
    ['RCPT', `550-5.1.1 ${canary}\r\n550 5.1.1 ${canary}`, 'recipient', 'RCPT TO failed: the server replied 550 5.1.1'],
    ['RCPT', `552 5.2.2 ${canary}`, 'recipient', 'RCPT TO failed: the server replied 552 5.2.2'],
    ['RCPT', `554 5.7.1 ${canary}: access denied`, 'policy', 'RCPT TO failed: the server replied 554 5.7.1'],
    ['RCPT', `550 5.1.8 ${canary}`, 'policy', 'RCPT TO failed: the server replied 550 5.1.8'],
    ['RCPT', `550 ${canary} Relay not permitted`, 'policy', 'RCPT TO failed: the server replied 550'],
    ['RCPT', `553 not in my list of allowed rcpthosts`, 'policy', 'RCPT TO failed: the server replied 553'],
    ['RCPT', `530 ${canary}`, 'policy', 'RCPT TO failed: the server replied 530'],
    ['DATA', `451 4.3.0 ${canary}`, 'mail', 'DATA failed: the server replied 451 4.3.0'],
    ['DATA', `554 5.6.0 ${canary}`, 'recipient', 'DATA failed: the server replied 554 5.6.0'],
    ['message', `452 4.3.1 ${canary}`, 'mail', 'DATA failed: the server replied 452 4.3.1'],
    ['message', `550 5.2.1 ${canary}`, 'recipient', 'DATA failed: the server replied 550 5.2.1'],
    ['message', `554 5.7.1 ${canary}`, 'policy', 'DATA failed: the server replied 554 5.7.1'],
  ];
  for (const [step, reply, fault, message] of table) {
    test(`${reply.split(' ', 2).join(' ').slice(0, 9)} to ${step} is the fault of: ${fault}; and is told by its codes alone`, async () => {
      for (const isPipelining of [true, false]) {
        const error = await failWith(step, reply, isPipelining);
        assert.deepEqual([error.fault, error.message], [fault, message]);
        assert.equal(error.isPermanent, reply.startsWith('5'));
      }
    });
  }

  test('421 in the middle of a delivery is about that mail, whatever the server calls it', async () => {
    for (const step of ['RCPT', 'DATA', 'message'] as const) {
      const { fault, replyCode } = await failWith(step, `421 4.7.0 ${canary}`);
      assert.deepEqual([fault, replyCode], ['mail', 421], step);
    }
  });

  test('that is no reply, or never ends, is the end of the try', async () => {
    for (const act of [`hello ${canary}`, `250-${'x'.repeat(70_000)}`]) {
      assert.equal((await failWith('greeting', act)).fault, 'server');
      assert.equal((await failWith('RCPT', act)).fault, 'mail');
    }
  });
});

describe('a mail server that fails', () => {
  const table: [SmtpStep, SmtpAct, DeliveryFault, RegExp][] = [
    ['greeting', { act: 'hang' }, 'server', /^CONN failed: ETIMEDOUT$/],
    ['EHLO', { act: 'hang' }, 'server', /^CONN failed: ETIMEDOUT$/],
    ['AUTH', { act: 'hang' }, 'server', /^CONN failed: ETIMEDOUT$/],
    ['MAIL', { act: 'hang' }, 'mail', /^CONN failed: ETIMEDOUT$/],
    ['RCPT', { act: 'hang' }, 'mail', /^CONN failed: ETIMEDOUT$/],
    ['message', { act: 'hang' }, 'mail', /^CONN failed: ETIMEDOUT$/],
    ['greeting', { act: 'cut' }, 'server', /^CONN failed: ECONN/],
    ['EHLO', { act: 'cut' }, 'server', /^CONN failed: ECONN/],
    ['AUTH', { act: 'cut' }, 'server', /^CONN failed: ECONN/],
    ['RCPT', { act: 'cut' }, 'mail', /^CONN failed: E/],
    ['DATA', { act: 'cut' }, 'mail', /^CONN failed: E/],
    ['message', { act: 'cut' }, 'mail', /^CONN failed: E/],
    ['greeting', { act: 'trickle', everyMs: 20 }, 'server', /^CONN failed: E/],
    ['EHLO', { act: 'trickle', everyMs: 20 }, 'server', /^CONN failed: E/],
    ['RCPT', { act: 'trickle', everyMs: 20 }, 'mail', /^CONN failed: EABORT$/],
    ['message', { act: 'trickle', everyMs: 20 }, 'mail', /^CONN failed: EABORT$/],
  ];
  for (const [step, act, fault, reason] of table) {
    const what = typeof act === 'string' ? act : act.act;
    test(`with a ${what} at ${step} is given up in time, and it is the fault of: ${fault}`, async () => {
      const startedAtMs = performance.now();
      const error = await failWith(step, act);
      const tookMs = performance.now() - startedAtMs;
      assert.equal(error.fault, fault);
      assert.match(error.message, reason);
      assert.ok(tookMs < 1_500, `it took ${tookMs} ms`);
    });
  }

  test('is not waited for by a look either, at any step', async () => {
    for (const step of ['greeting', 'EHLO', 'AUTH'] as const) {
      for (const act of [{ act: 'hang' }, { act: 'cut' }, { act: 'trickle', everyMs: 20 }, `550 ${canary}`] as const) {
        const server = await startScriptedMailServer({ [step]: act, HELO: `550 ${canary}` });
        const url = `smtp://user:${password}@127.0.0.1:${server.port}?tls=off`;
        const transport = createSmtpTransport(
          readSmtpUrl(url, () => 'off'),
          'no-reply@latchkey.test',
          limits,
        );
        const startedAtMs = performance.now();
        await assert.rejects(transport.verify(), (error) => {
          assert.ok(error instanceof DeliveryError);
          assert.doesNotMatch(`${error.stack}${JSON.stringify(error)}`, /canary|K7M2QX/);
          return error.fault === 'server';
        });
        assert.ok(performance.now() - startedAtMs < 1_000, step);
        await transport.close();
        server.stop();
      }
    }
  });

  test('ends a look when the transport closes', async () => {
    const server = await startScriptedMailServer({ greeting: { act: 'hang' } });
    const transport = createSmtpTransport(
      readSmtpUrl(server.url, () => 'off'),
      'no-reply@latchkey.test',
    );
    const look = transport.verify();
    const startedAtMs = performance.now();
    await transport.close();
    await assert.rejects(look);
    assert.ok(performance.now() - startedAtMs < 1_000);
    server.stop();
  });
});
