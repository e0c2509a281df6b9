import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import type { DeliveryEvent } from './attempts.ts';
import { createDeliveryLog } from './delivery-log.ts';
import { describeSmtpFailure } from './smtp-failure.ts';

const reply = Object.assign(new Error('Invalid login: 550 5.1.1 <canary@example.com> K7M2QX'), {
  code: 'EENVELOPE',
  command: 'RCPT TO',
  response: '550 5.1.1 <canary@example.com> K7M2QX',
  responseCode: 550,
  rejected: ['canary@example.com'],
});

test('the log says of a mail its id, its tries and the codes of the server, in the level that fits, and no word more', () => {
  const error = describeSmtpFailure(reply, true);
  const cut = describeSmtpFailure(Object.assign(new Error('canary'), { code: 'ECONNRESET', command: 'CONN' }), false);
  const events: DeliveryEvent[] = [
    { type: 'postponed', id: 'a', attempts: 1, error },
    { type: 'given_up', id: 'a', attempts: 3, error },
    { type: 'expired', id: 'a', attempts: 4 },
    { type: 'server_down', error: cut },
    { type: 'server_up' },
  ];
  const reason = 'RCPT TO failed: the server replied 550 5.1.1';
  const codes = { reason, reply_code: 550, enhanced_code: '5.1.1' };
  const lines = events.map(logLine);
  assert.deepEqual(
    lines.map(({ msg: _msg, ...fields }) => fields),
    [
      { level: 40, mail_id: 'a', attempts: 1, ...codes },
      { level: 50, mail_id: 'a', attempts: 3, ...codes },
      { level: 40, mail_id: 'a', attempts: 4 },
      { level: 40, reason: 'CONN failed: ECONNRESET' },
      { level: 30 },
    ],
  );
  assert.equal(new Set(lines.map(({ msg }) => msg)).size, events.length);
  assert.doesNotMatch(JSON.stringify(lines), /canary|K7M2QX/);
});

test('the log shows the stack of what is no answer of a mail server', () => {
  for (const event of [
    { type: 'postponed', id: 'a', attempts: 1, error: new Error('not configured') },
    { type: 'outbox_unreachable', error: new Error('not configured') },
  ] as const) {
    const { level, err } = logLine(event);
    assert.equal(level, 40);
    assert.match((err as { stack: string }).stack, /not configured/);
  }
});

function logLine(event: DeliveryEvent): Record<string, unknown> {
  const lines: string[] = [];
  const log = pino({ base: null, timestamp: false }, { write: (line: string) => void lines.push(line) });
  createDeliveryLog(log)(event);
  return JSON.parse(lines.join());
}
