import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  budgetSpent,
  disableUser,
  logIn,
  newEmail,
  newestMail,
  obtainCode,
  openSession,
  proveAddress,
  readMe,
  refresh,
  registerUser,
  sendCode,
} from '../../test/accounts.ts';
import {
  assertProblem,
  assertRefused,
  assertRefusedAndRecorded,
  type Call,
  call,
  takeStock,
} from '../../test/client.ts';
import { ask, complete, emailOf, obtainChangeCode, prove, verify } from '../../test/email-change.ts';
import { describeOnBackends } from '../../test/system.ts';

const minute = 60;

describeOnBackends('e-mail change', {}, (system) => {
  function codeLogin(verification_token: string): Call {
    return { method: 'POST', path: '/auth/login/code', body: { verification_token } };
  }

  test('a change is asked for, proved and completed, and the account keeps everything else', async () => {
    const user = await registerUser(system(), { name: 'Ada' });
    const email = newEmail();
    const asked = await call(system(), ask(user, email.toUpperCase()));
    assert.deepEqual([asked.status, asked.body], [202, { expires_in: 300, resend_after: 60 }]);
    assert.equal(asked.headers['cache-control'], 'no-store');
    assert.equal(await emailOf(system(), user), user.email, 'nothing has changed yet');
    const code = (await newestMail(system(), email))?.subject.slice(0, 6) ?? '';
    const proved = await call(system(), verify(email, code));
    system().clock.advanceSeconds(5);
    const before = (await readMe(system(), user.accessToken)).body;
    const reply = await call(system(), complete(user, proved.body.verification_token));
    assert.equal(reply.status, 200);
    assert.equal(reply.headers['cache-control'], 'no-store');
    const now = new Date(system().clock.now()).toISOString();
    assert.deepEqual(reply.body, { ...before, email, updated_at: now });
    assert.deepEqual((await readMe(system(), user.accessToken)).body, reply.body);
  });

  test('afterwards the new address logs in and the old one does not', async () => {
    const user = await registerUser(system());
    const email = newEmail();
    await call(system(), complete(user, await prove(system(), user, email)));
    assertProblem(await logIn(system(), user.email, user.password), 'invalid_credentials');
    assert.equal((await logIn(system(), email, user.password)).body.user.id, user.id);
    system().clock.advanceSeconds(61);
    const { mails } = await takeStock(system());
    assert.equal((await sendCode(system(), user.email, 'login')).status, 202);
    assert.equal((await takeStock(system())).mails, mails, 'the old address gets no code any more');
    const proof = await proveAddress(system(), email, 'login');
    assert.equal((await call(system(), codeLogin(proof))).body.user.id, user.id);
  });

  test('the old address is told, the new one is not, and one event is recorded', async () => {
    const user = await registerUser(system());
    const email = newEmail();
    const token = await prove(system(), user, email);
    const before = await takeStock(system());
    await call(system(), complete(user, token));
    const after = await takeStock(system());
    assert.deepEqual([after.mails, after.audit_events], [before.mails + 1, (before.audit_events ?? 0) + 1]);
    const mail = await newestMail(system(), user.email);
    assert.equal(mail?.subject, 'Your e-mail address was changed');
    assert.ok(!mail?.text.includes(email), 'whoever reads the old mailbox need not learn the new address');
    const query = system().deps.db.selectFrom('audit_events').selectAll().where('user_id', '=', user.id);
    const [event] = await query.where('type', '=', 'email.changed').execute();
    const details = { sessions_ended: 0, by: 'owner' };
    assert.deepEqual([event?.actor_id, JSON.parse(event?.details ?? '{}')], [user.id, details]);
  });

  test('sessions go on through the change', async () => {
    const user = await registerUser(system());
    const other = await openSession(system(), user);
    const email = newEmail();
    await call(system(), complete(user, await prove(system(), user, email)));
    for (const session of [user, other]) {
      assert.equal(await emailOf(system(), session), email);
      assert.equal((await refresh(system(), session.refreshToken)).status, 200);
    }
  });

  test('the old address is free for somebody else', async () => {
    const user = await registerUser(system());
    await call(system(), complete(user, await prove(system(), user, newEmail())));
    system().clock.advanceSeconds(61);
    const successor = await registerUser(system(), { email: user.email });
    assert.notEqual(successor.id, user.id);
  });

  test('asking needs a recent authentication, completing does not', async () => {
    const user = await registerUser(system());
    system().clock.advanceSeconds(301);
    const request = ask(user, newEmail());
    const reply = await assertRefused(system(), request, 'insufficient_user_authentication', { max_age: 300 });
    assert.match(reply.headers['www-authenticate'] ?? '', /error="insufficient_user_authentication".*max_age="300"/);
    const fresh = await openSession(system(), user);
    system().clock.advanceSeconds(300);
    const token = await prove(system(), fresh, newEmail());
    system().clock.advanceSeconds(10);
    assert.equal((await call(system(), complete(fresh, token))).status, 200);
  });

  test('both steps need an access token', async () => {
    for (const { token: _token, ...anonymous } of [
      ask(await registerUser(system()), newEmail()),
      complete(await registerUser(system()), 'x'),
    ]) {
      await assertRefused(system(), anonymous, 'authentication_required');
      await assertRefused(system(), { ...anonymous, token: 'a.b.c' }, 'invalid_token');
    }
  });

  test('one’s own address, what is no address, and an unknown field are refused', async () => {
    const user = await registerUser(system());
    const own = [{ path: '/email', message: 'is your address already' }];
    await assertRefused(system(), ask(user, user.email), 'validation_failed', { errors: own });
    await assertRefused(system(), ask(user, user.email.toUpperCase()), 'validation_failed', { errors: own });
    const malformed = [{ path: '/email', message: 'must be an e-mail address' }];
    await assertRefused(system(), ask(user, 'not an address'), 'validation_failed', { errors: malformed });
    const unknown: Call = { ...ask(user, newEmail()), body: { email: newEmail(), status: 'active' } };
    const errors = [{ path: '/status', message: 'is not a known field' }];
    await assertRefused(system(), unknown, 'validation_failed', { errors });
  });

  test('a taken address is answered like a free one, and only its owner is told', async () => {
    const user = await registerUser(system());
    const owner = await registerUser(system());
    system().clock.advanceSeconds(61);
    const before = await takeStock(system());
    const taken = await call(system(), ask(user, owner.email));
    const { mails } = await takeStock(system());
    assert.equal(mails, before.mails + 1);
    const free = await call(system(), ask(user, newEmail()));
    assert.deepEqual([taken.status, taken.body], [free.status, free.body]);
    assert.deepEqual({ ...taken.headers, date: '' }, { ...free.headers, date: '' });
    const mail = await newestMail(system(), owner.email);
    assert.equal(mail?.subject, 'Somebody tried to use your address');
    assert.ok(!mail?.text.includes(user.email), 'the owner does not learn who it was');
    assert.doesNotMatch(`${mail?.subject}${mail?.text}`, /\b[0-9A-HJKMNP-TV-Z]{6}\b/);
  });

  test('what was sent for a taken address has no code that could ever be right', async () => {
    const user = await registerUser(system());
    const owner = await registerUser(system());
    system().clock.advanceSeconds(61);
    await call(system(), ask(user, owner.email));
    for (const code of ['000000', 'ZZZZZZ', '7K3QZ9']) {
      await assertRefusedAndRecorded(system(), verify(owner.email, code), 'invalid_code', 'code.refused');
    }
    assert.equal(await emailOf(system(), user), user.email);
    assert.equal(await emailOf(system(), owner), owner.email);
  });

  test('a proof of a taken address for another purpose does not move an account there', async () => {
    const user = await registerUser(system());
    const owner = await registerUser(system());
    system().clock.advanceSeconds(61);
    await call(system(), ask(user, owner.email));
    system().clock.advanceSeconds(61);
    const proof = await proveAddress(system(), owner.email, 'login');
    await assertRefused(system(), complete(user, proof), 'invalid_verification_token');
    assert.equal((await call(system(), codeLogin(proof))).body.user.id, owner.id);
  });

  test('a proof works for the user who asked and for nobody else, and a refusal leaves it to its owner', async () => {
    const user = await registerUser(system());
    const thief = await registerUser(system());
    const email = newEmail();
    const token = await prove(system(), user, email);
    await assertRefused(system(), complete(thief, token), 'invalid_verification_token');
    assert.equal((await call(system(), ask(thief, newEmail()))).status, 202);
    await assertRefused(system(), complete(thief, token), 'invalid_verification_token');
    assert.equal((await call(system(), complete(user, token))).body.email, email);
  });

  test('a proof works once, and what is no proof never', async () => {
    const user = await registerUser(system());
    const token = await prove(system(), user, newEmail());
    for (const other of ['x', `${'A'.repeat(22)}.${'A'.repeat(43)}`, `${token.slice(0, -1)}!`]) {
      await assertRefused(system(), complete(user, other), 'invalid_verification_token');
    }
    assert.equal((await call(system(), complete(user, token))).status, 200);
    await assertRefused(system(), complete(user, token), 'invalid_verification_token');
  });

  test('codes and proofs of the old address die with the change', async () => {
    const user = await registerUser(system());
    const token = await prove(system(), user, newEmail());
    system().clock.advanceSeconds(61);
    const loginProof = await proveAddress(system(), user.email, 'login');
    system().clock.advanceSeconds(61);
    const resetCode = await obtainCode(system(), user.email, 'password_reset');
    assert.equal((await call(system(), complete(user, token))).status, 200);
    await assertRefused(system(), codeLogin(loginProof), 'invalid_verification_token');
    const body = { email: user.email, purpose: 'password_reset', code: resetCode };
    await assertRefusedAndRecorded(
      system(),
      { method: 'POST', path: '/auth/verify-code', body },
      'invalid_code',
      'code.refused',
    );
  });

  test('a second request replaces the first', async () => {
    const user = await registerUser(system());
    const first = await prove(system(), user, newEmail());
    const email = newEmail();
    const second = await prove(system(), user, email);
    await assertRefused(system(), complete(user, first), 'invalid_verification_token');
    assert.equal((await call(system(), complete(user, second))).body.email, email);
  });

  test('a second request for a taken address replaces the first too', async () => {
    const user = await registerUser(system());
    const owner = await registerUser(system());
    const first = await prove(system(), user, newEmail());
    system().clock.advanceSeconds(61);
    await call(system(), ask(user, owner.email));
    await assertRefused(system(), complete(user, first), 'invalid_verification_token');
  });

  test('a change that is completed too late is refused', async () => {
    const user = await registerUser(system());
    const token = await prove(system(), user, newEmail());
    system().clock.advanceSeconds(10 * minute);
    await assertRefused(system(), complete(user, token), 'invalid_verification_token');
    const late = await openSession(system(), user);
    const email = newEmail();
    const code = await obtainChangeCode(system(), late, email);
    system().clock.advanceSeconds(5 * minute);
    await assertRefusedAndRecorded(system(), verify(email, code), 'invalid_code', 'code.refused');
  });

  test('a permission that has expired does not work, whatever the proof', async () => {
    const user = await registerUser(system());
    const token = await prove(system(), user, newEmail());
    const { db, clock } = system().deps;
    const query = db.updateTable('pending_email_changes').set({ expires_at: clock.now() });
    await query.where('user_id', '=', user.id).execute();
    await assertRefused(system(), complete(user, token), 'invalid_verification_token');
  });

  test('a user disabled or deleted meanwhile completes nothing', async () => {
    const user = await registerUser(system());
    const token = await prove(system(), user, newEmail());
    await disableUser(system(), user.id);
    await assertRefused(system(), complete(user, token), 'invalid_token');
  });

  test('the budget of mails is shared with every other purpose', async () => {
    const user = await registerUser(system());
    const email = newEmail();
    await sendCode(system(), email, 'registration');
    const reply = await assertRefused(system(), ask(user, email), 'too_many_requests', budgetSpent);
    assert.equal(reply.headers['retry-after'], '60');
    system().clock.advanceSeconds(60);
    assert.equal((await call(system(), ask(user, email))).status, 202);
    await assertRefused(
      system(),
      { method: 'POST', path: '/auth/send-code', body: { email, purpose: 'login' } },
      'too_many_requests',
      budgetSpent,
    );
  });

  test('a refusal for the budget leaves the change under way as it is', async () => {
    const user = await registerUser(system());
    const email = newEmail();
    const token = await prove(system(), user, email);
    const exhausted = newEmail();
    await sendCode(system(), exhausted, 'login');
    await assertRefused(system(), ask(user, exhausted), 'too_many_requests', budgetSpent);
    assert.equal((await call(system(), complete(user, token))).body.email, email);
  });
});
