import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newEmail, registerUser, type TestUser } from '../../test/accounts.ts';
import {
  administration,
  done,
  giveRole,
  makeRole,
  newestEvent,
  registerAdministrator,
  registerWith,
} from '../../test/administrators.ts';
import { assertRefused, call } from '../../test/client.ts';
import { describeOnBackends, type System } from '../../test/system.ts';

const outOfReach = { detail: 'This user holds permissions that you do not.' };

describeOnBackends('who may do what to whom', {}, (system) => {
  const asAdministrator = async () => {
    const admin = await registerAdministrator(system());
    return { admin, ...administration(admin.accessToken) };
  };

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
