import assert from 'node:assert/strict';
import { after, before, describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { goodPassword, newEmail } from '../accounts.ts';
import { type MailServer, reply, startMailServer } from '../mail-server.ts';
import { findFreePort } from '../ports.ts';
import { get, type Program, post, startProgram } from '../program.ts';
import { inScratch } from '../scratch.ts';
import { type SmtpAct, startScriptedMailServer } from '../scripted-mail-server.ts';
import { createScratch } from '../system.ts';
import { until } from '../until.ts';

// The longest pause between tries, a turn of the timer, and what a busy machine adds.
const recoveryLimitMs = 10_000 + 1_000 + 2_000;

async function sendCode(program: Program, email = newEmail()): Promise<string> {
  const { status } = await post(program, '/auth/send-code', { email, purpose: 'registration' });
  assert.equal(status, 202);
  return email;
}

async function readMail(program: Program): Promise<string> {
  const { status, body } = await get(program, '/health/ready');
  assert.deepEqual([status, body.status], [200, body.components.mail === 'up' ? 'ready' : 'degraded']);
  return body.components.mail;
}

const recipientsOf = (server: MailServer) => server.received.flatMap(({ to }) => to).sort();
const countLines = (program: Program, words: string) => program.output().split(words).length - 1;

describe('when the mail server fails', () => {
  test('a program that starts without one says so in a line, and sends everything when it comes', (t) =>
    inScratch(async (scratch) => {
      const port = await findFreePort();
      const program = await startProgram({ ...scratch, SMTP_URL: `smtp://127.0.0.1:${port}` });
      await until(async () => (await readMail(program)) === 'down');
      const recipients = await Promise.all(Array.from({ length: 30 }, () => sendCode(program)));
      // Long enough that the pauses between tries have grown to their longest.
      await sleep(17_000);
      assert.equal(await readMail(program), 'down');
      const server = await startMailServer({}, port);
      const startedAtMs = performance.now();
      await until(() => server.received.length > 0, recoveryLimitMs);
      const firstAfterMs = Math.round(performance.now() - startedAtMs);
      await until(() => server.received.length >= recipients.length);
      t.diagnostic(`measured: mail after SMTP came back: ${firstAfterMs} ms`);
      t.diagnostic(`measured: all ${recipients.length} mails: ${Math.round(performance.now() - startedAtMs)} ms`);
      assert.deepEqual(recipientsOf(server), recipients.sort());
      assert.equal(await readMail(program), 'up');
      assert.equal(countLines(program, 'the mail server takes no mail'), 1);
      assert.equal(countLines(program, 'the mail server takes mail again'), 1);
      assert.equal(countLines(program, '"level":40'), 1);
      await program.stop('SIGTERM');
      await server.stop();
    }));

  test('one that dies under load and comes back has each mail once', () =>
    inScratch(async (scratch) => {
      let isDying = false;
      const options = {
        onData: (_stream: unknown, _session: unknown, done: (error?: Error | null) => void) => {
          // Whoever dies has accepted nothing.
          setTimeout(() => isDying || done(), 20);
        },
      };
      const first = await startMailServer(options);
      const program = await startProgram({ ...scratch, SMTP_URL: first.url });
      const recipients: string[] = [];
      for (let index = 0; index < 60; index += 1) {
        recipients.push(await sendCode(program));
        if (index === 30) {
          isDying = true;
          void first.stop();
        }
      }
      await until(() => first.connections() === 0);
      const second = await startMailServer(options, first.port);
      isDying = false;
      await until(() => first.received.length + second.received.length >= recipients.length, 30_000);
      assert.deepEqual([...recipientsOf(first), ...recipientsOf(second)].sort(), recipients.sort());
      await program.stop('SIGTERM');
      await second.stop();
    }));

  test('what it says is not repeated in the log: no address, no code, no password', () =>
    inScratch(async (scratch) => {
      const told: string[] = [];
      let replyCode = 535;
      const server = await startMailServer({
        authOptional: false,
        allowInsecureAuth: true,
        onAuth({ password }, _session, done) {
          told.push(password ?? '');
          if (replyCode === 535) done(reply(535, `5.7.8 what is ${password}?`));
          else done(null, { user: 'user' });
        },
        onRcptTo({ address }, _session, done) {
          done(replyCode === 450 ? reply(450, `4.2.0 <${address}> comes later`) : null);
        },
      });
      const url = `smtp://user:hunter2-canary@127.0.0.1:${server.port}?tls=off`;
      // Two, because a wrong password is not tried again for a minute.
      for (const code of [535, 450]) {
        replyCode = code;
        const program = await startProgram({ ...scratch, SMTP_URL: url, LOG_LEVEL: 'trace' });
        const email = await sendCode(program);
        await until(() => program.output().includes(`"reply_code":${code}`));
        const [name = ''] = email.split('@');
        const secrets = [name, 'hunter2', Buffer.from('hunter2-canary').toString('base64').slice(0, 12)];
        for (const secret of secrets) assert.ok(!program.output().includes(secret), `the log has ${secret}`);
        assert.doesNotMatch(program.output(), /comes later|what is/);
        await program.stop('SIGTERM');
      }
      assert.ok(told.includes('hunter2-canary'));
      await server.stop();
    }));
});

describe('the answers to requests', () => {
  let scratch: Awaited<ReturnType<typeof createScratch>>;
  let email: string;
  let usual: Timing;

  const start = (port: number) => startProgram({ ...scratch.environment, SMTP_URL: `smtp://127.0.0.1:${port}` });

  before(async () => {
    scratch = await createScratch('sqlite+memory');
    const server = await startMailServer();
    const program = await start(server.port);
    email = await registerByMail(program, server);
    usual = await measure(program, email);
    await program.stop('SIGTERM');
    await server.stop();
  });
  after(() => scratch?.remove());

  const failures: Record<string, SmtpAct | undefined> = {
    'is not there': undefined,
    'accepts connections and says nothing': { act: 'hang' },
    trickles: { act: 'trickle', everyMs: 100 },
    'refuses everybody': '554 5.3.2 go away',
  };
  for (const [name, greeting] of Object.entries(failures)) {
    test(`are what they were, as fast as they were, while a mail server ${name}`, async (t) => {
      const failing = greeting === undefined ? undefined : await startScriptedMailServer({ greeting });
      const program = await start(failing?.port ?? (await findFreePort()));
      compare(t, usual, await measure(program, email));
      await program.stop('SIGTERM');
      failing?.stop();
    });
  }
});

type Timing = { medianMs: number; longestMs: number };

/** Registers with the code that the mail server got. */
async function registerByMail(program: Program, server: MailServer): Promise<string> {
  const email = await sendCode(program);
  const find = () => server.received.find(({ to }) => to.includes(email));
  await until(() => find() !== undefined);
  const code = /^Subject: ([0-9A-Z]{6})/m.exec(find()?.data ?? '')?.[1];
  const { body } = await post(program, '/auth/verify-code', { email, purpose: 'registration', code });
  const account = { verification_token: body.verification_token, password: goodPassword };
  assert.equal((await post(program, '/auth/register', account)).status, 201);
  return email;
}

/** Asks for codes, logs in from new devices, which mails the owner, and refreshes; nothing may be refused. */
async function measure(program: Program, email: string): Promise<Timing> {
  const times: number[] = [];
  const timed = async (status: number, path: string, body: unknown) => {
    const startedAtMs = performance.now();
    const answer = await post(program, path, body);
    times.push(performance.now() - startedAtMs);
    assert.equal(answer.status, status, JSON.stringify(answer.body));
    return answer.body;
  };
  // More than there are places for deliveries.
  for (let round = 0; round < 15; round += 1) {
    await timed(202, '/auth/send-code', { email: newEmail(), purpose: 'registration' });
    const { refresh_token } = await timed(200, '/auth/login', { email, password: goodPassword });
    await timed(200, '/auth/refresh', { refresh_token });
  }
  times.sort((a, b) => a - b);
  return { medianMs: times[Math.floor(times.length / 2)] ?? 0, longestMs: times.at(-1) ?? 0 };
}

function compare(t: TestContext, usual: Timing, failed: Timing): void {
  const show = ({ medianMs, longestMs }: Timing) =>
    `median ${medianMs.toFixed(1)} ms, longest ${longestMs.toFixed(0)} ms`;
  t.diagnostic(`measured: with a working mail server: ${show(usual)}; with this one: ${show(failed)}`);
  // Generous, for machines that are busy: a request that waited for the mail server would take seconds.
  assert.ok(failed.medianMs < 3 * usual.medianMs + 50, 'requests are slower');
  assert.ok(failed.longestMs < 2_000, 'a request waited');
}
