import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  goodPassword,
  logIn,
  newEmail,
  newestMail,
  proveAddress,
  readMe,
  registerUser,
  sendCode,
} from '../../test/accounts.ts';
import { assertRefused, type Call, call } from '../../test/client.ts';
import { testRaces } from '../../test/races/races.ts';
import { registrationRaces } from '../../test/races/registrations.ts';
import { describeOnBackends } from '../../test/system.ts';

describeOnBackends('registration', {}, (system) => {
  function registration(verification_token: string, fields: Record<string, unknown> = {}): Call {
    const body = { verification_token, password: goodPassword, ...fields };
    return { method: 'POST', path: '/auth/register', body };
  }

  test('a proved address and a password make an account that is logged in', async () => {
    const email = newEmail();
    const token = await proveAddress(system(), email, 'registration');
    const profile = { name: 'Ada', locale: 'PT-br', metadata: { plan: 'free' } };
    const reply = await call(system(), registration(token, profile));
    assert.equal(reply.status, 201);
    assert.equal(reply.headers.location, '/users/me');
    assert.equal(reply.headers['cache-control'], 'no-store');
    const { user, ...tokens } = reply.body;
    const now = new Date(system().clock.now()).toISOString();
    assert.deepEqual(user, {
      id: user.id,
      email,
      name: 'Ada',
      locale: 'pt-BR',
      metadata: { plan: 'free' },
      status: 'active',
      roles: ['user'],
      created_at: now,
      updated_at: now,
      last_login_at: now,
    });
    assert.equal(tokens.token_type, 'Bearer');
    assert.equal(tokens.expires_in, 1800);
    assert.equal(tokens.refresh_token_expires_in, 604_800);
    const me = await readMe(system(), tokens.access_token);
    assert.deepEqual(me.body, user);
  });

  test('the address is stored in its canonical spelling, however it was typed', async () => {
    const email = newEmail();
    const typed = email.toUpperCase();
    await sendCode(system(), typed, 'registration');
    const mail = await newestMail(system(), email);
    const code = mail?.subject.slice(0, 6);
    const body = { email: typed, purpose: 'registration', code };
    const proof = await call(system(), { method: 'POST', path: '/auth/verify-code', body });
    const reply = await call(system(), registration(proof.body.verification_token));
    assert.equal(reply.body.user.email, email);
    assert.equal((await logIn(system(), typed, goodPassword)).status, 200);
  });

  test('a verification token makes one account and no second', async () => {
    const token = await proveAddress(system(), newEmail(), 'registration');
    assert.equal((await call(system(), registration(token))).status, 201);
    await assertRefused(system(), registration(token), 'invalid_verification_token');
  });

  test('a token of another purpose, an invented and a malformed one are refused alike', async () => {
    const { email } = await registerUser(system());
    system().clock.advanceSeconds(61);
    const forLogin = await proveAddress(system(), email, 'login');
    const invented = `${'A'.repeat(22)}.${'A'.repeat(43)}`;
    for (const token of [forLogin, invented, 'x', `${forLogin}A`]) {
      await assertRefused(system(), registration(token), 'invalid_verification_token');
    }
  });

  test('a verification token dies after ten minutes', async () => {
    const early = await proveAddress(system(), newEmail(), 'registration');
    system().clock.advanceSeconds(599);
    assert.equal((await call(system(), registration(early))).status, 201);
    const late = await proveAddress(system(), newEmail(), 'registration');
    system().clock.advanceSeconds(600);
    await assertRefused(system(), registration(late), 'invalid_verification_token');
  });

  test('a rejected password says why and does not use the token up', async () => {
    const email = newEmail();
    const token = await proveAddress(system(), email, 'registration');
    const rejected = [
      { password: '1234567', message: 'must be at least 8 characters long' },
      { password: 'Password123', message: 'is one of the most common passwords' },
      { password: `${email}!`, message: 'must not be built from your e-mail address' },
    ];
    for (const { password, message } of rejected) {
      const errors = [{ path: '/password', message }];
      await assertRefused(system(), registration(token, { password }), 'password_rejected', { errors });
    }
    assert.equal((await call(system(), registration(token))).status, 201);
  });

  test('a profile that the schema cannot judge is refused and does not use the token up', async () => {
    const token = await proveAddress(system(), newEmail(), 'registration');
    const metadata = { text: 'x'.repeat(8 * 1024) };
    await assertRefused(system(), registration(token, { metadata }), 'validation_failed', {
      errors: [{ path: '/metadata', message: 'must be at most 8192 bytes as JSON' }],
    });
    await assertRefused(system(), registration(token, { locale: 'en-x' }), 'validation_failed', {
      errors: [{ path: '/locale', message: 'must be a language tag (BCP 47)' }],
    });
    assert.equal((await call(system(), registration(token))).status, 201);
  });

  test('nobody registers with a role, a status or an id of their own choice', async () => {
    const token = await proveAddress(system(), newEmail(), 'registration');
    for (const field of ['roles', 'status', 'id', 'email', 'permissions']) {
      const errors = [{ path: `/${field}`, message: 'is not a known field' }];
      await assertRefused(system(), registration(token, { [field]: 'admin' }), 'validation_failed', { errors });
    }
  });

  testRaces(registrationRaces, system);

  test('an address that got an account after it was proved is answered 409 and keeps that account', async () => {
    const email = newEmail();
    const early = await proveAddress(system(), email, 'registration');
    const [handle, secret] = early.split('.');
    // A second proof from before the account existed, as another instance might have given out.
    const payload = JSON.stringify({ email, userId: null });
    const entry = { digest: await digestOf(secret ?? ''), payload, expiresAtMs: system().clock.now() + 60_000 };
    assert.equal((await call(system(), registration(early))).status, 201);
    await system().deps.ephemeral.put(`{${handle}}:token:registration`, entry, system().clock.now());
    await assertRefused(system(), registration(early, { password: 'another fine passphrase' }), 'account_exists');
    assert.equal((await logIn(system(), email, goodPassword)).status, 200);
  });
});

async function digestOf(secret: string): Promise<string> {
  const bytes = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(secret));
  return Buffer.from(bytes).toString('base64url');
}
