import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  budgetSpent,
  newEmail,
  newestMail,
  obtainCode,
  registerUser,
  sendCode,
  subjectsOfMails,
} from '../../test/accounts.ts';
import {
  assertProblem,
  assertRefused,
  assertRefusedAndRecorded,
  type Call,
  call,
  takeStock,
} from '../../test/client.ts';
import { codeRaces } from '../../test/races/codes.ts';
import { testRaces } from '../../test/races/races.ts';
import { describeOnBackends } from '../../test/system.ts';

describeOnBackends('verification', {}, (system) => {
  function guess(email: string, purpose: string, code: string): Call {
    return { method: 'POST', path: '/auth/verify-code', body: { email, purpose, code } };
  }

  function send(email: string, purpose = 'registration'): Call {
    return { method: 'POST', path: '/auth/send-code', body: { email, purpose } };
  }

  test('a code is six Crockford characters, mailed once, and proves the address', async () => {
    const email = newEmail();
    const reply = await sendCode(system(), email, 'registration');
    assert.equal(reply.status, 202);
    assert.deepEqual(reply.body, { expires_in: 300, resend_after: 60 });
    const mail = await newestMail(system(), email);
    const code = mail?.text.match(/^ {4}(\S+)$/m)?.[1] ?? '';
    assert.match(code, /^[0-9A-HJKMNP-TV-Z]{6}$/);
    assert.equal((await subjectsOfMails(system(), email)).length, 1);
    const proved = await call(system(), guess(email, 'registration', code));
    assert.equal(proved.status, 200);
    assert.equal(proved.body.expires_in, 600);
    assert.equal(proved.headers['cache-control'], 'no-store');
  });

  test('a code may be typed in any case, with spaces and hyphens, and with O for 0 and I or L for 1', async () => {
    const email = newEmail();
    const code = await obtainCode(system(), email, 'registration');
    const typed = ` ${code.slice(0, 3).toLowerCase()}-${code.slice(3)} `.replaceAll('0', 'o').replaceAll('1', 'l');
    assert.equal((await call(system(), guess(email, 'registration', typed))).status, 200);
  });

  test('neither the code nor the address of a waiting mail can be read in the stores', async () => {
    const email = newEmail();
    await call(system(), send(email));
    const rows = await system().deps.db.selectFrom('outbox').selectAll().execute();
    assert.ok(!JSON.stringify(rows).includes(email.split('@')[0] ?? ''));
  });

  test('a code works once', async () => {
    const email = newEmail();
    const code = await obtainCode(system(), email, 'registration');
    assert.equal((await call(system(), guess(email, 'registration', code))).status, 200);
    await assertRefusedAndRecorded(system(), guess(email, 'registration', code), 'invalid_code', 'code.refused');
  });

  test('a code works for five minutes', async () => {
    const early = newEmail();
    const earlyCode = await obtainCode(system(), early, 'registration');
    system().clock.advanceSeconds(299);
    assert.equal((await call(system(), guess(early, 'registration', earlyCode))).status, 200);
    const late = newEmail();
    const lateCode = await obtainCode(system(), late, 'registration');
    system().clock.advanceSeconds(300);
    await assertRefusedAndRecorded(system(), guess(late, 'registration', lateCode), 'invalid_code', 'code.refused');
  });

  test('a code is bound to its address and its purpose', async () => {
    const user = await registerUser(system());
    system().clock.advanceSeconds(61);
    const code = await obtainCode(system(), user.email, 'login');
    for (const purpose of ['registration', 'password_reset', 'email_change']) {
      await assertRefusedAndRecorded(system(), guess(user.email, purpose, code), 'invalid_code', 'code.refused');
    }
    await assertRefusedAndRecorded(system(), guess(newEmail(), 'login', code), 'invalid_code', 'code.refused');
    assert.equal((await call(system(), guess(user.email, 'login', code))).status, 200);
  });

  test('a new code ends the old one', async () => {
    const email = newEmail();
    const old = await obtainCode(system(), email, 'registration');
    system().clock.advanceSeconds(61);
    const current = await obtainCode(system(), email, 'registration');
    await assertRefusedAndRecorded(system(), guess(email, 'registration', old), 'invalid_code', 'code.refused');
    assert.equal((await call(system(), guess(email, 'registration', current))).status, 200);
  });

  test('five wrong tries use a code up, and the answer never says how many are left', async () => {
    const email = newEmail();
    const code = await obtainCode(system(), email, 'registration');
    const wrong = code === '000000' ? '111111' : '000000';
    for (let tries = 0; tries < 5; tries += 1) {
      await assertRefusedAndRecorded(system(), guess(email, 'registration', wrong), 'invalid_code', 'code.refused');
    }
    await assertRefusedAndRecorded(system(), guess(email, 'registration', code), 'invalid_code', 'code.refused');
  });

  test('what cannot be a code is refused like a wrong one', async () => {
    const email = newEmail();
    await obtainCode(system(), email, 'registration');
    for (const code of ['12345', '1234567', 'UUUUUU', '12345!', '١٢٣٤٥٦']) {
      await assertRefusedAndRecorded(system(), guess(email, 'registration', code), 'invalid_code', 'code.refused');
    }
  });

  testRaces(codeRaces, system);

  test('an address is mailed at most once a minute, five times an hour and ten times a day', async () => {
    const email = newEmail();
    const sentAtMinutes: number[] = [];
    for (let minute = 0; minute <= 24 * 60; minute += 1) {
      const reply = await call(system(), send(email));
      if (reply.status === 202) sentAtMinutes.push(minute);
      else assertProblem(reply, 'too_many_requests', budgetSpent);
      system().clock.advanceSeconds(60);
    }
    assert.deepEqual(sentAtMinutes, [0, 1, 2, 3, 4, 60, 61, 62, 63, 64, 24 * 60]);
  });

  test('a refusal for the budget says when to come back, sends nothing and does not extend the wait', async () => {
    const email = newEmail();
    await call(system(), send(email));
    system().clock.advanceSeconds(20);
    for (const _ of [1, 2, 3]) {
      const reply = await assertRefused(system(), send(email), 'too_many_requests', budgetSpent);
      assert.equal(reply.headers['retry-after'], '40');
    }
    system().clock.advanceSeconds(40);
    assert.equal((await call(system(), send(email))).status, 202);
  });

  test('the budget is counted over all purposes and spellings of an address', async () => {
    const email = newEmail();
    await call(system(), send(email, 'login'));
    await assertRefused(system(), send(email, 'registration'), 'too_many_requests', budgetSpent);
    await assertRefused(system(), send(email.toUpperCase(), 'password_reset'), 'too_many_requests', budgetSpent);
  });

  test('registration of an address that has an account is answered alike and tells the owner', async () => {
    const user = await registerUser(system());
    system().clock.advanceSeconds(61);
    const known = await call(system(), send(user.email));
    const unknown = await call(system(), send(newEmail()));
    assert.deepEqual([known.status, known.body], [unknown.status, unknown.body]);
    assert.deepEqual(Object.keys(known.headers), Object.keys(unknown.headers));
    const [newest] = await subjectsOfMails(system(), user.email);
    assert.equal(newest, 'You already have an account');
  });

  for (const purpose of ['login', 'password_reset']) {
    test(`${purpose} for an address without an account is answered alike, mails nobody and has no code`, async () => {
      const email = newEmail();
      const { users, mails } = await takeStock(system());
      const reply = await call(system(), send(email, purpose));
      assert.equal(reply.status, 202);
      assert.deepEqual(reply.body, { expires_in: 300, resend_after: 60 });
      const after = await takeStock(system());
      assert.deepEqual([after.users, after.mails, after.outbox], [users, mails, 0]);
      await assertRefused(system(), send(email, purpose), 'too_many_requests', budgetSpent);
    });
  }

  test('a disabled account gets no code to log in or to reset its password', async () => {
    const user = await registerUser(system());
    await system().deps.db.updateTable('users').set({ status: 'disabled' }).where('id', '=', user.id).execute();
    for (const purpose of ['login', 'password_reset']) {
      system().clock.advanceSeconds(61);
      const before = await takeStock(system());
      assert.equal((await call(system(), send(user.email, purpose))).status, 202);
      assert.equal((await takeStock(system())).mails, before.mails);
    }
  });

  test('nobody can ask for a code to change an address without being logged in', async () => {
    const errors = [{ path: '/purpose', message: 'must be one of registration, login, password_reset' }];
    await assertRefused(system(), send(newEmail(), 'email_change'), 'validation_failed', { errors });
  });
});
