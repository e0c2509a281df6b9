import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

// Makes an account as a client would: through the proxy, with a code out of the mailbox. It says nothing and ends with 0
// when all of it works. Caddy's certificate must be known: NODE_EXTRA_CA_CERTS names the file of its authority.
const { ORIGIN: origin = 'https://localhost:8443', MAILBOX: mailbox = 'https://localhost:8025' } = process.env;
const limitMs = 20_000;
type Message = { To: { Address: string }[]; Subject: string };

const email = `smoke-${randomBytes(6).toString('hex')}@example.com`;
const password = randomBytes(16).toString('base64url');
const purpose = 'registration';

await untilItAnswers();
await ask(202, '/auth/send-code', { email, purpose });
const proof = await ask(200, '/auth/verify-code', { email, purpose, code: await readCode() });
await ask(201, '/auth/register', { verification_token: proof['verification_token'], password });
const tokens = await ask(200, '/auth/login', { email, password });
const me = await ask(200, '/users/me', undefined, `${tokens['access_token']}`);
assert.equal(me['email'], email);
await ask(200, '/auth/refresh', { refresh_token: tokens['refresh_token'] });
await ask(401, '/auth/login', { email, password: `${password}!` });

/** The proxy may have started in this moment. */
async function untilItAnswers(): Promise<void> {
  for (const giveUpAtMs = Date.now() + limitMs; ; await sleep(200)) {
    const response = await fetch(`${origin}/health/ready`).catch((error: unknown) => {
      if (Date.now() > giveUpAtMs) throw error;
    });
    if (response?.ok) return;
    assert.ok(Date.now() < giveUpAtMs, `it answers ${response?.status}`);
  }
}

async function ask(status: number, path: string, body?: object, token?: string): Promise<Record<string, unknown>> {
  const response = await fetch(origin + path, {
    ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
    headers: {
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    },
  });
  const answer = (await response.json()) as Record<string, unknown>;
  assert.equal(response.status, status, `${path}: ${JSON.stringify(answer)}`);
  return answer;
}

/** Reads the code out of Mailpit's list of messages. */
async function readCode(): Promise<string> {
  for (const giveUpAtMs = Date.now() + limitMs; Date.now() < giveUpAtMs; await sleep(200)) {
    const list = (await (await fetch(`${mailbox}/api/v1/messages`)).json()) as { messages: Message[] };
    const mail = list.messages.find(({ To }) => To.some(({ Address }) => Address === email));
    if (mail !== undefined) return mail.Subject.slice(0, 6);
  }
  throw new Error(`no mail came to ${email}`);
}
