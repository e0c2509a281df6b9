import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newEmail, sendCode } from '../../test/accounts.ts';
import { call } from '../../test/client.ts';
import { converse, parseReply } from '../../test/hostile-socket.ts';
import { describeOnBackends, startSystem } from '../../test/system.ts';

const environment = { NODE_ENV: 'development', PUBLIC_URL: 'http://localhost:8000' };

describeOnBackends('GET /dev/mailbox', environment, (system) => {
  test('shows what was sent, newest first, to whoever asks for this machine by name', async () => {
    const emails = [newEmail(), newEmail()];
    for (const email of emails) await sendCode(system(), email, 'registration');
    for (const host of ['localhost', 'localhost:8000', 'LOCALHOST:1', '127.0.0.1:8000', '[::1]:8000', '[::1]']) {
      const reply = await call(system(), { method: 'GET', path: '/dev/mailbox', headers: { host } });
      assert.equal(reply.status, 200, host);
      assert.deepEqual(
        reply.body.items.slice(0, 2).map(({ to }: { to: string }) => to),
        emails.toReversed(),
      );
      assert.equal(reply.headers['cache-control'], 'no-store');
    }
  });

  test('is not there under any other name, as a page would have that resolves its own to this machine', async () => {
    const strange = [
      'evil.example',
      'evil.example:8000',
      'localhost.evil.example',
      'localhost@evil.example',
      'evil.example#localhost',
      '127.0.0.1.evil.example',
      '127.0.0.2',
      '0.0.0.0',
      '[::]',
      '192.168.1.1:8000',
      'localhost.',
      'local host',
    ];
    for (const host of strange) {
      for (const accept of ['text/html', 'application/json']) {
        const reply = await call(system(), { method: 'GET', path: '/dev/mailbox', headers: { host, accept } });
        assert.equal(reply.status, 404, host);
        assert.equal(reply.body.code, 'not_found');
      }
    }
  });

  test('is not there for a client that names no host', async () => {
    const reply = parseReply(await converse(system(), 'GET /dev/mailbox HTTP/1.0\r\n\r\n'));
    assert.equal(reply.body.code, 'not_found');
  });

  test('does not take the word of a proxy for the name', async () => {
    const headers = { host: 'evil.example', 'x-forwarded-host': 'localhost' };
    assert.equal((await call(system(), { method: 'GET', path: '/dev/mailbox', headers })).status, 404);
  });
});

test('GET /dev/mailbox is absent under a public name, with SMTP, and outside development', async () => {
  for (const [index, other] of [
    { NODE_ENV: 'development', PUBLIC_URL: 'https://auth.example.com' },
    { ...environment, SMTP_URL: 'smtp://127.0.0.1:1' },
    { ...environment, NODE_ENV: 'test' },
  ].entries()) {
    const system = await startSystem('sqlite+memory', other);
    const reply = await call(system, { method: 'GET', path: '/dev/mailbox' });
    assert.equal(reply.status, 404, `case ${index}`);
    assert.equal(reply.body.code, 'not_found');
    await system.close();
  }
});
