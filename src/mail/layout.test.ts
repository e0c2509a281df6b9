import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { escapeHtml } from '../escape-html.ts';
import { renderMessage } from './layout.ts';
import { composeMessage, type Message } from './messages.ts';

const serviceUrl = 'https://auth.example.com';
const style = { serviceUrl, subjectTemplate: '{subject}' };

const paragraph = '<p style="margin:0 0 16px;font:16px/1.5 system-ui,sans-serif;color:#1c1e21">';
const bigCode = '<p style="margin:0 0 16px;font:700 32px/1.2 ui-monospace,monospace;letter-spacing:4px;color:#1c1e21">';
const smallPrint = '<p style="margin:24px 0 0;font:13px/1.5 system-ui,sans-serif;color:#65676b">';
const card =
  '<body style="margin:0;padding:32px 16px;background:#f5f6f8"><div style="max-width:480px;margin:0 auto;padding:32px;background:#fff;border-radius:8px">';

function head(title: string): string {
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>${title}</title></head>`;
}

type Sample = { name: string; message: Message; subject: string; text: string; html: string };

function codeSample(purpose: (Message & { kind: 'code' })['purpose'], subject: string, sentence: string): Sample {
  return {
    name: `a code for ${purpose}`,
    message: { kind: 'code', purpose, code: 'K7M2QX', expiresInMinutes: 5 },
    subject,
    text: `${sentence}

    K7M2QX

It works once and for 5 minutes. Type it only where you asked for it: nobody from the service will ever ask you for it.

If you did not ask for a code, you can ignore this message. Nothing was changed.

--${' '}
Sent by https://auth.example.com because this address was given there.
`,
    html: `${head(subject)}
${card}
${paragraph}${sentence}</p>
${bigCode}K7M2QX</p>
${paragraph}It works once and for 5 minutes. Type it only where you asked for it: nobody from the service will ever ask you for it.</p>
${paragraph}If you did not ask for a code, you can ignore this message. Nothing was changed.</p>
${smallPrint}Sent by https://auth.example.com because this address was given there.</p>
</div></body></html>`,
  };
}

function noticeSample(message: Message, subject: string, paragraphs: readonly string[]): Sample {
  return {
    name: message.kind,
    message,
    subject,
    text: `${paragraphs.join('\n\n')}

--${' '}
Sent by https://auth.example.com because this address was given there.
`,
    html: `${head(subject)}
${card}
${paragraphs.map((words) => `${paragraph}${words}</p>`).join('\n')}
${smallPrint}Sent by https://auth.example.com because this address was given there.</p>
</div></body></html>`,
  };
}

// Keyed by kind, so that the type checker misses a message that is added without a sample.
const samples: Record<Message['kind'], Sample[]> = {
  code: [
    codeSample('registration', 'K7M2QX is your code to create your account', 'Use this code to create your account:'),
    codeSample('login', 'K7M2QX is your code to log in', 'Use this code to log in:'),
    codeSample(
      'password_reset',
      'K7M2QX is your code to reset your password',
      'Use this code to choose a new password:',
    ),
    codeSample(
      'email_change',
      'K7M2QX is your code to confirm your new address',
      'Use this code to confirm your new e-mail address:',
    ),
  ],
  invitation: [
    {
      name: 'an invitation with a code',
      message: { kind: 'invitation', code: { code: 'K7M2QX', expiresInMinutes: 5 } },
      subject: 'K7M2QX is your code to accept an invitation',
      text: `You are invited to https://auth.example.com and an account with this address is waiting for you.

Use this code to create your account:

    K7M2QX

It works once and for 5 minutes.

If it no longer works, ask for a new code to create your account with this address: the invitation stays.

If you do not know what this is about, you can ignore this message.

--${' '}
Sent by https://auth.example.com because this address was given there.
`,
      html: `${head('K7M2QX is your code to accept an invitation')}
${card}
${paragraph}You are invited to https://auth.example.com and an account with this address is waiting for you.</p>
${paragraph}Use this code to create your account:</p>
${bigCode}K7M2QX</p>
${paragraph}It works once and for 5 minutes.</p>
${paragraph}If it no longer works, ask for a new code to create your account with this address: the invitation stays.</p>
${paragraph}If you do not know what this is about, you can ignore this message.</p>
${smallPrint}Sent by https://auth.example.com because this address was given there.</p>
</div></body></html>`,
    },
    noticeSample({ kind: 'invitation', code: undefined }, 'You are invited', [
      'You are invited to https://auth.example.com and an account with this address is waiting for you.',
      'Ask for a code to create your account with this address: the invitation stays.',
      'If you do not know what this is about, you can ignore this message.',
    ]),
  ],
  already_registered: [
    noticeSample({ kind: 'already_registered' }, 'You already have an account', [
      'Somebody, probably you, tried to create an account at https://auth.example.com with this address. It has one already.',
      'Log in instead, with your password or with an e-mailed code. If it was not you, you can ignore this message. Nothing was changed.',
    ]),
  ],
  address_in_use: [
    noticeSample({ kind: 'address_in_use' }, 'Somebody tried to use your address', [
      'Somebody tried to move another account at https://auth.example.com to this address. It belongs to your account, so nothing was changed.',
      'If it was you, log in to the account that has this address, or delete that one first.',
    ]),
  ],
  password_changed: [
    noticeSample({ kind: 'password_changed' }, 'Your password was changed', [
      'The password of your account at https://auth.example.com was changed, and all your other sessions were ended.',
      'If it was not you, reset your password now with an e-mailed code.',
    ]),
  ],
  password_reset: [
    noticeSample({ kind: 'password_reset' }, 'Your password was reset', [
      'The password of your account at https://auth.example.com was reset with an e-mailed code, and all your sessions were ended.',
      'If it was not you, somebody can read your mail: change the password of your mailbox, then this one.',
    ]),
  ],
  email_changed: [
    noticeSample({ kind: 'email_changed' }, 'Your e-mail address was changed', [
      'Your account at https://auth.example.com has a new e-mail address. You can no longer log in with this one, and no more mail about the account goes here.',
      'If it was not you, tell the people who run the service now.',
    ]),
  ],
  new_sign_in: [
    noticeSample(
      { kind: 'new_sign_in', device: 'Firefox on Linux', clientAddress: '192.0.2.1', time: '2027-01-15 08:00 UTC' },
      'New login to your account',
      [
        'Somebody logged in to your account at https://auth.example.com from a device or network that we had not seen with it before.',
        'Device: Firefox on Linux. Address: 192.0.2.1. Time: 2027-01-15 08:00 UTC.',
        'If it was not you, change your password: that ends all other sessions.',
      ],
    ),
    noticeSample(
      { kind: 'new_sign_in', device: null, clientAddress: '2001:db8::1', time: '2027-01-15 08:00 UTC' },
      'New login to your account',
      [
        'Somebody logged in to your account at https://auth.example.com from a device or network that we had not seen with it before.',
        'Device: unknown. Address: 2001:db8::1. Time: 2027-01-15 08:00 UTC.',
        'If it was not you, change your password: that ends all other sessions.',
      ],
    ),
  ],
  session_ended_for_reuse: [
    noticeSample({ kind: 'session_ended_for_reuse' }, 'We ended one of your sessions', [
      'Somebody used an old login token of your account at https://auth.example.com a second time. That can mean that it was copied, so we ended the session that it belonged to.',
      'Log in again where you need to. If you see devices or changes that are not yours, change your password.',
    ]),
  ],
};

describe('every message', () => {
  for (const { name, message, subject, text, html } of Object.values(samples).flat()) {
    test(`${name} reads exactly like this in text and in HTML`, () => {
      assert.deepEqual(composeMessage(message, 'en', style), { subject, text, html });
    });
  }

  test('names no address but that of the service, and links, loads and runs nothing', () => {
    for (const { message } of Object.values(samples).flat()) {
      const { subject, text, html } = composeMessage(message, null, style);
      for (const part of [subject, text, html]) {
        for (const url of part.match(/\b[a-z]+:\/\/[^\s<"]*/gi) ?? []) assert.equal(url, serviceUrl);
      }
      assert.doesNotMatch(
        html,
        /<(?:a|img|link|script|iframe|form|object|base)\b|href=|src=|url\(|javascript:|\bon\w+=/i,
      );
    }
  });

  test('has a subject of one line that fits a list of mails, and lines without control characters', () => {
    for (const { message } of Object.values(samples).flat()) {
      const { subject, text, html } = composeMessage(message, null, style);
      assert.match(subject, /^[ -~]{1,78}$/);
      assert.match(text, /^[\n -~]+$/);
      assert.match(html, /^[\n -~]+$/);
    }
  });

  test('is in English where the locale is unknown, absent, or a name that every object has', () => {
    const message: Message = { kind: 'password_changed' };
    const english = composeMessage(message, 'en', style);
    const locales = [
      null,
      'en-GB',
      'EN',
      'pt-BR',
      'tlh',
      '',
      '-',
      '__proto__',
      'constructor',
      'toString',
      '"><script>',
    ];
    for (const locale of locales) assert.deepEqual(composeMessage(message, locale, style), english, String(locale));
  });
});

describe('the layout', () => {
  test('escapes whatever it is given, in every place', () => {
    const hostile = `<img src=x onerror="a('&')">`;
    const escaped = '&lt;img src=x onerror=&quot;a(&#39;&amp;&#39;)&quot;&gt;';
    const content = { subject: hostile, opening: [hostile], code: hostile, closing: [hostile] };
    const { subject, text, html } = renderMessage(content, hostile, hostile);
    assert.equal(subject, hostile, 'a subject is plain text');
    assert.equal(text, `${hostile}\n\n    ${hostile}\n\n${hostile}\n\n-- \n${hostile}\n`);
    assert.equal(
      html,
      `<!doctype html><html lang="${escaped}"><head><meta charset="utf-8"><title>${escaped}</title></head>
${card}
${paragraph}${escaped}</p>
${bigCode}${escaped}</p>
${paragraph}${escaped}</p>
${smallPrint}${escaped}</p>
</div></body></html>`,
    );
  });

  test('escapes the five characters that mean something in HTML, each once, and no other', () => {
    assert.equal(escapeHtml(`&<>"'`), '&amp;&lt;&gt;&quot;&#39;');
    assert.equal(escapeHtml('&amp;'), '&amp;amp;');
    assert.equal(escapeHtml('$1 $` ü 🔑 \\ `'), '$1 $` ü 🔑 \\ `');
  });
});

test('the operator’s form of the subject goes around the message’s own, and nothing in it is a pattern', () => {
  const message = { kind: 'code', purpose: 'login', code: 'ABC123', expiresInMinutes: 5 } as const;
  const subjectOf = (subjectTemplate: string) => composeMessage(message, 'en', { serviceUrl, subjectTemplate }).subject;
  assert.equal(subjectOf('[Example] {subject}'), '[Example] ABC123 is your code to log in');
  assert.equal(subjectOf('$& {subject} {subject}'), '$& ABC123 is your code to log in {subject}');
});
