import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  budgetSpent,
  goodPassword,
  logIn,
  newEmail,
  newestMail,
  obtainCode,
  openSession,
  proveAddress,
  readMe,
  refresh,
  registerUser,
  subjectsOfMails,
  type TestUser,
} from '../../test/accounts.ts';
import {
  administration,
  done,
  giveRole,
  makeRole,
  newestEvent,
  registerAdministrator,
  registerWith,
} from '../../test/administrators.ts';
import { assertProblem, assertRefused, call } from '../../test/client.ts';
import { describeOnBackends, type System } from '../../test/system.ts';

const outOfReach = { detail: 'This user holds permissions that you do not.' };
const unknownId = '01978f6e-5c1a-7d2e-9b7a-2f8d1c3e4a5b';

describeOnBackends('administration of users', {}, (system) => {
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

  test('disabling a user ends every session at once, and enabling lets them log in again', async () => {
    const { admin, change } = await asAdministrator();
    const user = await registerUser(system());
    const other = await openSession(system(), user);
    system().clock.advanceSeconds(61);
    const proof = await proveAddress(system(), user.email, 'login');
    const disabled = await done(system(), change(user.id, { status: 'disabled' }));
    assert.equal(disabled.body.status, 'disabled');
    for (const { accessToken, refreshToken } of [user, other]) {
      assertProblem(await readMe(system(), accessToken), 'invalid_token');
      assertProblem(await refresh(system(), refreshToken), 'invalid_refresh_token');
    }
    assertProblem(await logIn(system(), user.email, user.password), 'invalid_credentials');
    const event = await newestEvent(system(), 'user.disabled', user.id);
    assert.deepEqual([event.actorId, event.details], [admin.id, { sessions_ended: 2, by: 'administrator' }]);
    system().clock.advanceSeconds(1);
    await done(system(), change(user.id, { status: 'active' }));
    assert.equal((await newestEvent(system(), 'user.enabled', user.id)).actorId, admin.id);
    const byCode = { method: 'POST', path: '/auth/login/code', body: { verification_token: proof } } as const;
    assertProblem(await call(system(), byCode), 'invalid_verification_token');
    assertProblem(await readMe(system(), user.accessToken), 'invalid_token');
    assert.equal((await logIn(system(), user.email, user.password)).status, 200);
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

  test('a change by an administrator touches what was sent, all of it or nothing', async () => {
    const { admin, change } = await asAdministrator();
    const user = await registerUser(system(), { name: 'Ada', locale: 'en', metadata: { a: 1 } });
    const renamed = (await done(system(), change(user.id, { name: 'Ada Lovelace', locale: null }))).body;
    assert.deepEqual([renamed.name, renamed.locale, renamed.metadata], ['Ada Lovelace', null, { a: 1 }]);
    const event = await newestEvent(system(), 'user.updated', user.id);
    assert.deepEqual([event.actorId, event.details], [admin.id, { fields: 'name,locale', by: 'administrator' }]);
    const untouched = (await done(system(), change(user.id, {}))).body;
    assert.deepEqual(untouched, renamed);
    const taken = { name: 'Other', status: 'disabled', email: admin.email };
    await assertRefused(system(), change(user.id, taken), 'account_exists');
    assert.equal((await readMe(system(), user.accessToken)).body.name, 'Ada Lovelace');
  });

  test('a new address by an administrator ends sessions and proofs, and the old address is told', async () => {
    const { admin, change } = await asAdministrator();
    const user = await registerUser(system());
    system().clock.advanceSeconds(61);
    const proof = await proveAddress(system(), user.email, 'password_reset');
    const email = newEmail();
    const moved = await done(system(), change(user.id, { email: email.toUpperCase().replace('EXAMPLE', 'Example') }));
    assert.equal(moved.body.email, email);
    assertProblem(await readMe(system(), user.accessToken), 'invalid_token');
    const reset = { verification_token: proof, new_password: `${goodPassword} new` };
    assertProblem(
      await call(system(), { method: 'POST', path: '/auth/reset-password', body: reset }),
      'invalid_verification_token',
    );
    assert.equal((await subjectsOfMails(system(), user.email))[0], 'Your e-mail address was changed');
    assertProblem(await logIn(system(), user.email, user.password), 'invalid_credentials');
    assert.equal((await logIn(system(), email, user.password)).status, 200);
    const event = await newestEvent(system(), 'email.changed', user.id);
    assert.deepEqual([event.actorId, event.details], [admin.id, { sessions_ended: 1, by: 'administrator' }]);
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

  test('deletion by an administrator leaves nothing but events, and the administrator’s own trace', async () => {
    const { admin, remove } = await asAdministrator();
    const user = await registerUser(system());
    assert.equal((await call(system(), remove(user.id))).status, 204);
    assertProblem(await readMe(system(), user.accessToken), 'invalid_token');
    assertProblem(await logIn(system(), user.email, user.password), 'invalid_credentials');
    const { db } = system().deps;
    assert.deepEqual(await db.selectFrom('sessions').select('id').where('user_id', '=', user.id).execute(), []);
    const events = await db.selectFrom('audit_events').selectAll().where('user_id', '=', user.id).execute();
    const [deletion, ...others] = events.toSorted(
      (a, b) => Number(b.actor_id === admin.id) - Number(a.actor_id === admin.id),
    );
    assert.deepEqual([deletion?.type, deletion?.actor_id], ['user.deleted', admin.id]);
    assert.notEqual(deletion?.client_address, null);
    for (const event of others) assert.deepEqual([event.client_address, event.details], [null, '{}']);
    await assertRefused(system(), remove(user.id), 'not_found');
  });

  test('what a deleted administrator did to others stays readable without saying where they were', async () => {
    const { admin, change, putRole } = await asAdministrator();
    const keeper = await registerAdministrator(system());
    const user = await registerUser(system());
    await done(system(), change(user.id, { name: 'Ada' }));
    const role = `made-${user.id}`;
    await done(system(), putRole(role, ['users:read']));
    assert.notEqual((await newestEvent(system(), 'user.updated', user.id)).clientAddress, null);
    await done(system(), { method: 'DELETE', path: '/users/me', token: admin.accessToken });
    const updated = await newestEvent(system(), 'user.updated', user.id);
    assert.deepEqual(updated, {
      actorId: admin.id,
      clientAddress: null,
      details: { fields: 'name', by: 'administrator' },
    });
    const { db } = system().deps;
    const left = await db.selectFrom('audit_events').selectAll().where('actor_id', '=', admin.id).execute();
    assert.ok(left.some(({ type, details }) => type === 'role.created' && details.includes(role)));
    for (const event of left) assert.deepEqual([event.client_address, event.user_agent], [null, null], event.type);
    assert.equal((await readMe(system(), keeper.accessToken)).status, 200);
  });

  test('one’s own export does not say where an administrator was', async () => {
    const { change } = await asAdministrator();
    const user = await registerUser(system());
    await done(system(), change(user.id, { name: 'Ada' }));
    const { body } = await done(system(), { method: 'GET', path: '/users/me/export', token: user.accessToken });
    const updated = body.events.find(({ type }: { type: string }) => type === 'user.updated');
    assert.deepEqual([updated.client_address, updated.user_agent], [null, null]);
    const own = body.events.find(({ type }: { type: string }) => type === 'user.registered');
    assert.notEqual(own.client_address, null);
  });

  test('the sessions of a user are listed and ended, and the user’s own other rights stay', async () => {
    const { admin, sessions, endSessions } = await asAdministrator();
    const user = await registerUser(system());
    const other = await openSession(system(), user);
    const listed = (await done(system(), sessions(user.id))).body;
    assert.equal(listed.items.length, 2);
    assert.deepEqual(new Set(listed.items.map(({ current }: { current: boolean }) => current)), new Set([false]));
    const firstPage = (await done(system(), sessions(user.id, '?limit=1'))).body;
    const secondPage = (await done(system(), sessions(user.id, `?limit=1&cursor=${firstPage.next_cursor}`))).body;
    assert.deepEqual([...firstPage.items, ...secondPage.items], listed.items);
    assert.equal((await call(system(), endSessions(user.id))).status, 204);
    for (const { accessToken } of [user, other]) assertProblem(await readMe(system(), accessToken), 'invalid_token');
    const event = await newestEvent(system(), 'user.sessions_ended', user.id);
    assert.deepEqual([event.actorId, event.details], [admin.id, { ended: 2, by: 'administrator' }]);
    assert.equal((await logIn(system(), user.email, user.password)).status, 200);
  });

  test('an id that is nobody’s is not found', async () => {
    const { read, change, remove, assign, sessions, endSessions } = await asAdministrator();
    const requests = [read(unknownId), change(unknownId, { name: 'Ada' }), change(unknownId, {}), remove(unknownId)];
    requests.push(assign(unknownId, ['user']), sessions(unknownId), endSessions(unknownId));
    for (const request of requests) await assertRefused(system(), request, 'not_found');
  });

  test('nobody changes a user who holds more than they do', async () => {
    const all = ['users:read', 'users:write', 'sessions:read', 'sessions:write', 'roles:read', 'roles:write'];
    const almost = await registerWith(system(), [...all, 'roles:assign', 'audit:read', 'app:own']);
    const targets: TestUser[] = [
      await registerAdministrator(system()),
      await registerWith(system(), ['app:other']),
      await registerWith(system(), ['users:read', 'app:other']),
    ];
    const { change, remove, assign, endSessions, read } = administration(almost.accessToken);
    for (const { id } of targets) {
      const requests = [
        change(id, { name: 'Ada' }),
        change(id, { status: 'disabled' }),
        change(id, { email: newEmail() }),
      ];
      requests.push(remove(id), assign(id, ['user']), endSessions(id));
      for (const request of requests) {
        const reply = await assertRefused(system(), request, 'insufficient_permission', outOfReach);
        const challenge = reply.headers['www-authenticate'] ?? '';
        assert.match(challenge, /^Bearer realm="latchkey", error="insufficient_scope", error_description="[^"]+"$/);
      }
      await done(system(), read(id));
    }
    const equal = await registerWith(system(), ['users:write', 'app:own']);
    await done(system(), change(equal.id, { status: 'disabled' }));
  });

  test('a lesser administrator cannot take over an account by its address that holds more', async () => {
    const helper = administration((await registerWith(system(), ['users:write'])).accessToken);
    const admin = await registerAdministrator(system());
    const request = helper.change(admin.id, { email: newEmail() });
    await assertRefused(system(), request, 'insufficient_permission', outOfReach);
  });

  test('acts that can take an account from its owner need a recent authentication, and others do not', async () => {
    const { change, remove, assign, endSessions, read } = await asAdministrator();
    const user = await registerUser(system());
    system().clock.advanceSeconds(301);
    const requests = [change(user.id, { status: 'disabled' }), change(user.id, { email: newEmail() })];
    requests.push(remove(user.id), assign(user.id, []));
    for (const request of requests) {
      await assertRefused(system(), request, 'insufficient_user_authentication', { max_age: 300 });
    }
    for (const request of [change(user.id, { name: 'Ada' }), endSessions(user.id), read(user.id)]) {
      await done(system(), request);
    }
  });

  test('fields that are no business of an administrator are refused', async () => {
    const { change, create } = await asAdministrator();
    const user = await registerUser(system());
    for (const field of ['roles', 'password', 'password_hash', 'id', 'created_at', 'permissions']) {
      const errors = [{ path: `/${field}`, message: 'is not a known field' }];
      await assertRefused(system(), change(user.id, { [field]: 'x' }), 'validation_failed', { errors });
      if (field === 'roles') continue;
      await assertRefused(system(), create({ email: newEmail(), [field]: 'x' }), 'validation_failed', { errors });
    }
    const errors = [{ path: '/status', message: 'must be one of active, disabled' }];
    await assertRefused(system(), change(user.id, { status: 'invited' }), 'validation_failed', { errors });
  });

  test('an administrator may give up the role, be disabled or be deleted while another one stays', async () => {
    await registerAdministrator(system());
    for (const leave of [
      ({ assign, admin }: Awaited<ReturnType<typeof asAdministrator>>) => assign(admin.id, ['user']),
      ({ change, admin }: Awaited<ReturnType<typeof asAdministrator>>) => change(admin.id, { status: 'disabled' }),
      ({ remove, admin }: Awaited<ReturnType<typeof asAdministrator>>) => remove(admin.id),
    ]) {
      const actor = await asAdministrator();
      await done(system(), leave(actor));
      const reply = await call(system(), actor.list());
      assert.ok(['invalid_token', 'insufficient_permission'].includes(reply.body.code), reply.text);
    }
  });

  test('a role that is given is effective on the next request, with the token from before', async () => {
    const { assign, admin } = await asAdministrator();
    const user = await registerUser(system());
    const { list } = administration(user.accessToken);
    const role = await makeRole(system(), ['users:read']);
    await assertRefused(system(), list(), 'insufficient_permission', { detail: 'This needs users:read.' });
    await done(system(), assign(user.id, ['user', role]));
    await done(system(), list());
    const event = await newestEvent(system(), 'user.roles_changed', user.id);
    assert.deepEqual([event.actorId, event.details], [admin.id, { added: role, removed: '', by: 'administrator' }]);
    await done(system(), assign(user.id, ['user']));
    await assertRefused(system(), list(), 'insufficient_permission', { detail: 'This needs users:read.' });
  });

  test('assigning what a user has already changes nothing and is no event', async () => {
    const { assign } = await asAdministrator();
    const user = await registerUser(system());
    const before = (await done(system(), assign(user.id, ['user']))).body;
    system().clock.advanceSeconds(5);
    assert.deepEqual((await done(system(), assign(user.id, ['user', 'user']))).body, before);
    const { db } = system().deps;
    const events = db.selectFrom('audit_events').select('id').where('user_id', '=', user.id);
    assert.deepEqual(await events.where('type', '=', 'user.roles_changed').execute(), []);
    assert.deepEqual((await done(system(), assign(user.id, []))).body.roles, []);
  });

  test('no more than twenty roles are given to one user', async () => {
    const { assign } = await asAdministrator();
    const user = await registerUser(system());
    const names = await Promise.all(Array.from({ length: 20 }, () => makeRole(system(), ['users:read'])));
    const errors = [{ path: '/roles', message: 'must NOT have more than 20 items' }];
    await assertRefused(system(), assign(user.id, ['user', ...names]), 'validation_failed', { errors });
    await done(system(), assign(user.id, names));
    await removeRoles(system(), names);
  });

  test('who holds every built-in permission by another role is no administrator, and makes none', async () => {
    const all = (await done(system(), (await asAdministrator()).roles())).body.items[0].permissions as string[];
    assert.equal(all.length, 8);
    const equal = await registerWith(system(), all);
    const user = await registerUser(system());
    const { assign } = administration(equal.accessToken);
    const refusal = { detail: 'This role holds permissions that you do not.' };
    await assertRefused(system(), assign(user.id, ['user', 'admin']), 'insufficient_permission', refusal);
    const admin = await registerAdministrator(system());
    await assertRefused(system(), assign(admin.id, []), 'insufficient_permission', outOfReach);
    await giveRole(system(), equal.id, 'admin');
    await done(system(), assign(user.id, ['user', 'admin']));
  });
});

async function removeRoles({ deps }: System, names: readonly string[]): Promise<void> {
  await deps.db.deleteFrom('roles').where('name', 'in', names).execute();
}
