import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  budgetSpent,
  goodPassword,
  logIn,
  newEmail,
  newestMail,
  obtainCode,
  readMe,
  subjectsOfMails,
} from '../../test/accounts.ts';
import {
  administration,
  done,
  makeRole,
  newestEvent,
  registerAdministrator,
  registerWith,
} from '../../test/administrators.ts';
import { assertProblem, assertRefused, call } from '../../test/client.ts';
import { describeOnBackends } from '../../test/system.ts';

describeOnBackends('invitations', {}, (system) => {
  const asAdministrator = async () => {
    const admin = await registerAdministrator(system());
    return { admin, ...administration(admin.accessToken) };
  };

  async function registerInvited(email: string, code: string, fields: Record<string, unknown> = {}) {
    const body = { email, purpose: 'registration', code };
    const proved = await call(system(), { method: 'POST', path: '/auth/verify-code', body });
    assert.equal(proved.status, 200, proved.text);
    const registration = { verification_token: proved.body.verification_token, password: goodPassword, ...fields };
    return call(system(), { method: 'POST', path: '/auth/register', body: registration });
  }

  async function codeOf(email: string): Promise<string> {
    const code = (await newestMail(system(), email))?.subject.match(/^([0-9A-Z]{6}) is your code/)?.[1];
    assert.ok(code, `no code was mailed to ${email}`);
    return code;
  }

  test('an invited user registers with the code of the invitation and keeps id, profile and roles', async () => {
    const { admin, create, read } = await asAdministrator();
    const role = await makeRole(system(), ['users:read']);
    const email = newEmail();
    const made = await done(system(), create({ email, name: 'Ada', metadata: { team: 1 }, roles: ['user', role] }));
    assert.equal(made.status, 201);
    assert.equal(made.headers.location, `/users/${made.body.id}`);
    const { id, status, roles } = made.body;
    assert.deepEqual([status, roles, made.body.last_login_at], ['invited', [role, 'user'], null]);
    const event = await newestEvent(system(), 'user.invited', id);
    assert.deepEqual([event.actorId, event.details], [admin.id, { roles: `user,${role}`, by: 'administrator' }]);

    const registered = await registerInvited(email, await codeOf(email), { locale: 'en' });
    assert.equal(registered.status, 201, registered.text);
    const { user } = registered.body;
    assert.deepEqual(
      [user.id, user.status, user.name, user.locale, user.metadata, user.roles],
      [id, 'active', 'Ada', 'en', { team: 1 }, [role, 'user']],
    );
    assert.equal((await readMe(system(), registered.body.access_token)).status, 200);
    assert.equal((await done(system(), read(id))).body.status, 'active');
    assert.equal((await logIn(system(), email, goodPassword)).status, 200);
  });

  test('an invitation that has expired is renewed by the invited themselves', async () => {
    const { create } = await asAdministrator();
    const email = newEmail();
    const { id } = (await done(system(), create({ email }))).body;
    const first = await codeOf(email);
    system().clock.advanceSeconds(301);
    const late = { email, purpose: 'registration', code: first };
    assertProblem(await call(system(), { method: 'POST', path: '/auth/verify-code', body: late }), 'invalid_code');
    const registered = await registerInvited(email, await obtainCode(system(), email, 'registration'));
    assert.deepEqual([registered.body.user.id, registered.body.user.roles], [id, ['user']]);
  });

  test('an invited user cannot log in, by no way, until they have registered', async () => {
    const { create } = await asAdministrator();
    const email = newEmail();
    await done(system(), create({ email }));
    assertProblem(await logIn(system(), email, goodPassword), 'invalid_credentials');
    system().clock.advanceSeconds(61);
    const before = await subjectsOfMails(system(), email);
    for (const purpose of ['login', 'password_reset']) {
      const body = { email, purpose };
      assert.equal((await call(system(), { method: 'POST', path: '/auth/send-code', body })).status, 202);
      system().clock.advanceSeconds(61);
    }
    assert.deepEqual(await subjectsOfMails(system(), email), before);
  });

  test('an address that has an account is not invited, in any spelling', async () => {
    const { admin, create } = await asAdministrator();
    const upper = admin.email.replace('user', 'USER').replace('example', 'Example');
    for (const email of [admin.email, upper]) await assertRefused(system(), create({ email }), 'account_exists');
  });

  test('an address that was mailed too often is not invited, and no account is made', async () => {
    const { create } = await asAdministrator();
    const email = newEmail();
    await obtainCode(system(), email, 'registration');
    await assertRefused(system(), create({ email }), 'too_many_requests', budgetSpent);
    system().clock.advanceSeconds(61);
    await done(system(), create({ email }));
  });

  test('20 parallel invitations of one address make one account', async () => {
    const { create, list } = await asAdministrator();
    const email = newEmail();
    const replies = await Promise.all(Array.from({ length: 20 }, () => call(system(), create({ email }))));
    assert.equal(replies.filter(({ status }) => status === 201).length, 1);
    for (const { status, text } of replies) assert.ok([201, 409, 429].includes(status), text);
    assert.equal((await done(system(), list(`?email=${email}`))).body.items.length, 1);
  });

  test('roles other than the first one are given at the invitation only by who may assign them', async () => {
    const writer = await registerWith(system(), ['users:write']);
    const role = await makeRole(system(), ['users:write']);
    const { create } = administration(writer.accessToken);
    const refusal = { detail: 'This needs roles:assign.' };
    await assertRefused(system(), create({ email: newEmail(), roles: [role] }), 'insufficient_permission', refusal);
    const made = await done(system(), create({ email: newEmail(), roles: ['user'] }));
    assert.deepEqual(made.body.roles, ['user']);

    const assigner = administration((await registerWith(system(), ['users:write', 'roles:assign'])).accessToken);
    assert.deepEqual((await done(system(), assigner.create({ email: newEmail(), roles: [role] }))).body.roles, [role]);
    const greater = await makeRole(system(), ['audit:read']);
    await assertRefused(system(), assigner.create({ email: newEmail(), roles: [greater] }), 'insufficient_permission', {
      detail: 'This role holds permissions that you do not.',
    });
    await assertRefused(system(), assigner.create({ email: newEmail(), roles: ['nothing'] }), 'validation_failed', {
      errors: [{ path: '/roles/0', message: 'is not a role' }],
    });
    system().clock.advanceSeconds(301);
    await assertRefused(
      system(),
      assigner.create({ email: newEmail(), roles: [role] }),
      'insufficient_user_authentication',
      { max_age: 300 },
    );
  });

  test('an invited account is neither disabled nor enabled, and deleting it withdraws the invitation', async () => {
    const { create, change, remove, read } = await asAdministrator();
    const email = newEmail();
    const { id } = (await done(system(), create({ email }))).body;
    for (const status of ['active', 'disabled']) {
      await assertRefused(system(), change(id, { status }), 'address_not_proved');
    }
    const code = await codeOf(email);
    await done(system(), remove(id));
    await assertRefused(system(), read(id), 'not_found');
    const body = { email, purpose: 'registration', code };
    assertProblem(await call(system(), { method: 'POST', path: '/auth/verify-code', body }), 'invalid_code');
  });

  test('an invitation follows a corrected address, and the code at the old one is worth nothing', async () => {
    const { create, change } = await asAdministrator();
    const [wrong, right] = [newEmail(), newEmail()];
    const { id } = (await done(system(), create({ email: wrong }))).body;
    const code = await codeOf(wrong);
    system().clock.advanceSeconds(61);
    await done(system(), change(id, { email: right }));
    assert.deepEqual(await subjectsOfMails(system(), right), ['You are invited']);
    const body = { email: wrong, purpose: 'registration', code };
    assertProblem(await call(system(), { method: 'POST', path: '/auth/verify-code', body }), 'invalid_code');
    system().clock.advanceSeconds(1);
    const registered = await registerInvited(right, await obtainCode(system(), right, 'registration'));
    assert.equal(registered.body.user.id, id);
  });
});
