import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import {
  disableUser,
  goodPassword,
  logIn,
  newEmail,
  obtainCode,
  openSession,
  proveAddress,
  readMe,
  refresh,
  registerUser,
  sendCode,
} from '../../test/accounts.ts';
import { call } from '../../test/client.ts';
import { guessOften, newPlace, tryLogin } from '../../test/guessing.ts';
import { reply, startMailServer } from '../../test/mail-server.ts';
import { countedBy, readCounts } from '../../test/metrics.ts';
import { describeOnBackends, startSystem } from '../../test/system.ts';

const verified = { 'hash_duration_seconds_count{operation=verify}': 1, hash_wait_seconds_count: 1 };
const hashed = { 'hash_duration_seconds_count{operation=hash}': 1, hash_wait_seconds_count: 1 };
const delivered = { 'mail_deliveries_total{outcome=delivered}': 1 };

describeOnBackends('what is counted', {}, (system, backend) => {
  const counts = (act: () => Promise<unknown>) => countedBy(system(), act);
  const deliver = () => system().deps.outbox.deliverDue();
  // The hash that stands for accounts that are not there is made once.
  before(() => logIn(system(), newEmail(), goodPassword));
  const cacheMiss = backend === 'sqlite+memory' ? {} : { 'session_cache_reads_total{outcome=miss}': 1 };

  test('a login by its outcome, which the answer does not tell', async () => {
    const user = await registerUser(system());
    const disabled = await registerUser(system());
    await disableUser(system(), disabled.id);
    const outcomes = [
      [user.email, goodPassword, 'succeeded'],
      [user.email, 'wrong password', 'wrong_password'],
      [newEmail(), goodPassword, 'unknown_address'],
      [disabled.email, goodPassword, 'inactive_account'],
      [disabled.email, 'wrong password', 'wrong_password'],
    ] as const;
    for (const [email, password, outcome] of outcomes) {
      const moved = await counts(() => logIn(system(), email, password));
      assert.deepEqual(moved, { ...verified, [`logins_total{method=password,outcome=${outcome}}`]: 1 });
    }
    await system().deps.db.updateTable('users').set({ password_hash: 'x' }).where('id', '=', user.id).execute();
    const moved = await counts(() => logIn(system(), user.email, goodPassword));
    assert.deepEqual(moved, { ...verified, 'logins_total{method=password,outcome=unreadable_hash}': 1 });
  });

  test('a password that waits for a reset', async () => {
    const { email } = await registerUser(system());
    await guessOften(system(), email, 100);
    await deliver();
    const moved = await counts(() => tryLogin(system(), email, goodPassword, newPlace()));
    assert.deepEqual(moved, {
      ...verified,
      'logins_total{method=password,outcome=throttled}': 1,
      'password_throttled_total{lane=public,reason=suspended}': 1,
    });
  });

  test('a login by code, and a proof that is not one', async () => {
    const { email } = await registerUser(system());
    system().clock.advanceSeconds(60);
    const code = { code: '' };
    const sent = await counts(async () => {
      code.code = await obtainCode(system(), email, 'login');
    });
    assert.deepEqual(sent, { 'codes_sent_total{purpose=login,content=code}': 1, ...delivered });
    const check = (guess: string) =>
      call(system(), { method: 'POST', path: '/auth/verify-code', body: { email, purpose: 'login', code: guess } });
    for (const wrong of ['000000', 'not a code']) {
      const refused = await counts(() => check(wrong));
      assert.deepEqual(refused, { 'codes_checked_total{purpose=login,outcome=refused}': 1 });
    }
    const proof = { token: '' };
    const accepted = await counts(async () => {
      proof.token = (await check(code.code)).body.verification_token;
    });
    assert.deepEqual(accepted, { 'codes_checked_total{purpose=login,outcome=accepted}': 1 });
    const use = () =>
      call(system(), { method: 'POST', path: '/auth/login/code', body: { verification_token: proof.token } });
    assert.deepEqual(await counts(use), { 'logins_total{method=code,outcome=succeeded}': 1 });
    assert.deepEqual(await counts(use), { 'logins_total{method=code,outcome=refused_proof}': 1 });
  });

  test('what a code that was asked for became: a mail with it, a notice, or nothing', async () => {
    const { email } = await registerUser(system());
    const stranger = newEmail();
    const askFor = (address: string, purpose: string) => async () => {
      await sendCode(system(), address, purpose);
      await deliver();
    };
    system().clock.advanceSeconds(60);
    const notice = await counts(askFor(email, 'registration'));
    assert.deepEqual(notice, { 'codes_sent_total{purpose=registration,content=notice}': 1, ...delivered });
    const nothing = await counts(askFor(stranger, 'password_reset'));
    assert.deepEqual(nothing, { 'codes_sent_total{purpose=password_reset,content=nothing}': 1 });
    assert.deepEqual(await counts(askFor(stranger, 'login')), { 'rate_limited_total{limit=code_mails}': 1 });
  });

  test('a registration, a change of password, a reset and a reauthentication', async () => {
    const email = newEmail();
    const proof = await proveAddress(system(), email, 'registration');
    const body = { verification_token: proof, password: goodPassword };
    const weak = { ...body, password: 'password' };
    assert.deepEqual(await counts(() => call(system(), { method: 'POST', path: '/auth/register', body: weak })), {});
    const account = { token: '' };
    const registered = await counts(async () => {
      const reply = await call(system(), { method: 'POST', path: '/auth/register', body });
      account.token = reply.body.access_token;
    });
    assert.deepEqual(registered, { ...hashed, registrations_total: 1 });

    const reauthenticate = (password: string) => () =>
      call(system(), { method: 'POST', path: '/auth/reauthenticate', token: account.token, body: { password } });
    const confirmed = (act: string, outcome: string) => ({
      [`password_confirmations_total{act=${act},outcome=${outcome}}`]: 1,
    });
    assert.deepEqual(await counts(reauthenticate(goodPassword)), {
      ...verified,
      ...cacheMiss,
      ...confirmed('reauthentication', 'succeeded'),
    });
    assert.deepEqual(await counts(reauthenticate('wrong')), {
      ...verified,
      ...cacheMiss,
      ...confirmed('reauthentication', 'wrong_password'),
    });

    const change = (current_password: string) => async () => {
      const fields = { current_password, new_password: `${goodPassword} 2` };
      await call(system(), { method: 'PUT', path: '/users/me/password', token: account.token, body: fields });
      await deliver();
    };
    assert.deepEqual(await counts(change('wrong')), {
      ...verified,
      ...cacheMiss,
      ...confirmed('password_change', 'wrong_password'),
    });
    assert.deepEqual(await counts(change(goodPassword)), {
      ...verified,
      ...hashed,
      hash_wait_seconds_count: 2,
      ...cacheMiss,
      ...confirmed('password_change', 'succeeded'),
      'password_changes_total{proof=password}': 1,
      ...delivered,
    });
    system().clock.advanceSeconds(60);
    const resetProof = await proveAddress(system(), email, 'password_reset');
    const reset = { verification_token: resetProof, new_password: goodPassword };
    const resetMoved = await counts(async () => {
      await call(system(), { method: 'POST', path: '/auth/reset-password', body: reset });
      await deliver();
    });
    assert.deepEqual(resetMoved, { ...hashed, 'password_changes_total{proof=code}': 1, ...delivered });
  });

  test('a refresh by what came of it', async () => {
    const { refreshToken } = await registerUser(system());
    const exchange = (token: string) => counts(() => refresh(system(), token));
    assert.deepEqual(await exchange(refreshToken), { 'refreshes_total{outcome=rotated}': 1 });
    assert.deepEqual(await exchange(refreshToken), { 'refreshes_total{outcome=repeated}': 1 });
    assert.deepEqual(await exchange(`${refreshToken.slice(0, -4)}AAAA`), { 'refreshes_total{outcome=refused}': 1 });
    assert.deepEqual(await exchange('nonsense'), { 'refreshes_total{outcome=refused}': 1 });
    system().clock.advanceSeconds(31);
    const reused = await counts(async () => {
      await refresh(system(), refreshToken);
      await deliver();
    });
    assert.deepEqual(reused, { 'refreshes_total{outcome=reused}': 1, ...delivered });
  });

  test('a look into the session cache, where there is one', async () => {
    const user = await openSession(system(), await registerUser(system()));
    await readMe(system(), user.accessToken);
    const moved = await counts(() => readMe(system(), user.accessToken));
    const reads = Object.keys(moved);
    if (backend === 'sqlite+memory') assert.deepEqual(reads, []);
    else assert.match(reads.join(), /^session_cache_reads_total\{outcome=(?:hit|miss)\}$/);
  });

  test('a request by route, method and status, and how long it took by route and method', async () => {
    const requests = async (act: () => Promise<unknown>) => {
      const before = await readCounts(system());
      await act();
      const after = [...(await readCounts(system()))];
      return after
        .filter(([key, value]) => key.includes('_http_') && value !== (before.get(key) ?? 0))
        .map(([key]) => key);
    };
    assert.deepEqual(await requests(() => call(system(), { method: 'GET', path: '/users/me' })), [
      'latchkey_http_requests_total{method=GET,route=/users/me,status=401}',
      'latchkey_http_request_duration_seconds_count{method=GET,route=/users/me}',
    ]);
    const unknown = `/unknown/${newEmail()}`;
    assert.deepEqual(await requests(() => call(system(), { method: 'GET', path: unknown })), [
      'latchkey_http_requests_total{method=GET,route=unmatched,status=404}',
      'latchkey_http_request_duration_seconds_count{method=GET,route=unmatched}',
    ]);
    const unreadable = () => system().app.inject({ method: 'GET', url: '/%zz' });
    assert.deepEqual(await requests(unreadable), [
      'latchkey_http_requests_total{method=GET,route=unmatched,status=400}',
    ]);
  });
});

describe('the metrics of work that is refused or fails', () => {
  describeOnBackends('for want of a place', { HASH_THREADS: '1', HASH_QUEUE_MAX: '1', BCRYPT_COST: '10' }, (system) => {
    before(() => logIn(system(), newEmail(), goodPassword));

    test('a password that finds the queue full is counted, and is no login', async () => {
      let refused = 0;
      const moved = await countedBy(system(), async () => {
        const replies = await Promise.all(Array.from({ length: 8 }, () => logIn(system(), newEmail(), goodPassword)));
        refused = replies.filter(({ status }) => status === 503).length;
      });
      assert.ok(refused > 0, 'the queue was never full');
      assert.deepEqual(moved, {
        'hash_duration_seconds_count{operation=verify}': 8 - refused,
        'hash_refused_total{reason=queue_full}': refused,
        hash_wait_seconds_count: 8 - refused,
        'logins_total{method=password,outcome=unknown_address}': 8 - refused,
      });
    });

    test('a code that could not be written is counted as failed, and not as sent', async () => {
      const { schema } = system().deps.db;
      await schema.alterTable('outbox').renameTo('outbox_away').execute();
      const moved = await countedBy(system(), () => sendCode(system(), newEmail(), 'registration'));
      await schema.alterTable('outbox_away').renameTo('outbox').execute();
      assert.deepEqual(moved, { 'codes_failed_total{purpose=registration}': 1 });
    });
  });

  test('a mail is counted as postponed at every try, and once as expired or given up', async () => {
    let answer = reply(451, '4.2.1 not now');
    const server = await startMailServer({ onRcptTo: (_address, _session, done) => done(answer) });
    const system = await startSystem('sqlite+memory', { SMTP_URL: server.url });
    const deliver = () => countedBy(system, () => system.deps.outbox.deliverDue());
    const dayMs = 24 * 60 * 60 * 1000;
    const enqueue = () =>
      system.deps.outbox.enqueue(system.deps.db, {
        to: newEmail(),
        userId: null,
        locale: null,
        message: { kind: 'already_registered' },
        expiresAtMs: system.clock.now() + dayMs,
      });
    try {
      await logIn(system, newEmail(), goodPassword);
      await enqueue();
      assert.deepEqual(await deliver(), { 'mail_deliveries_total{outcome=postponed}': 1 });
      system.clock.advanceSeconds(600);
      assert.deepEqual(await deliver(), { 'mail_deliveries_total{outcome=postponed}': 1 });
      system.clock.advanceSeconds(dayMs / 1000);
      assert.deepEqual(await deliver(), { 'mail_deliveries_total{outcome=expired}': 1 });
      answer = reply(550, '5.1.1 nobody');
      await enqueue();
      const outcomes: Record<string, number>[] = [];
      for (let tries = 0; tries < 3; tries += 1) {
        outcomes.push(await deliver());
        system.clock.advanceSeconds(3_600);
      }
      const [postponed, givenUp] = ['postponed', 'given_up'].map((name) => ({
        [`mail_deliveries_total{outcome=${name}}`]: 1,
      }));
      assert.deepEqual(outcomes, [postponed, postponed, givenUp]);
    } finally {
      await system.close();
      await server.stop();
    }
  });
});

describe('the metrics of a limit', () => {
  describeOnBackends('per client', { RATE_LIMITS: 'on' }, (system) => {
    before(() => logIn(system(), newEmail(), goodPassword));

    test('a refused request is counted under its limit, an allowed one is not', async () => {
      const remoteAddress = '198.51.100.7';
      const attempt = () => call(system(), { method: 'POST', path: '/auth/register', body: {}, remoteAddress });
      for (let allowed = 0; allowed < 10; allowed += 1) assert.deepEqual(await countedBy(system(), attempt), {});
      assert.deepEqual(await countedBy(system(), attempt), { 'rate_limited_total{limit=register}': 1 });
    });
  });
});
