import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeJwt } from 'jose';
import { logIn, registerUser } from '../../test/accounts.ts';
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
import { describeOnBackends } from '../../test/system.ts';
import { builtInPermissions, permissionPattern } from '../permissions.ts';

const notGrantable = { detail: 'This role holds permissions that you do not.' };
const everyPermission = Object.keys(builtInPermissions).sort();

describeOnBackends('roles', {}, (system) => {
  const asAdministrator = async () => {
    const admin = await registerAdministrator(system());
    return { admin, ...administration(admin.accessToken) };
  };
  let made = 0;
  const newName = () => {
    made += 1;
    return `role.${made}`;
  };

  test('admin and user are there from the start, and admin holds every permission of this version', async () => {
    const { roles } = await asAdministrator();
    // What an older version has stored of it is no limit.
    await system()
      .deps.db.updateTable('roles')
      .set({ permissions: '["users:read"]' })
      .where('name', '=', 'admin')
      .execute();
    const { items, next_cursor: next } = (await done(system(), roles())).body;
    const byName = new Map<string, { permissions: string[] }>(items.map((role: { name: string }) => [role.name, role]));
    assert.deepEqual(byName.get('admin')?.permissions, everyPermission);
    assert.deepEqual(byName.get('user')?.permissions, []);
    assert.equal(next, null);
  });

  test('a role is made, changed and deleted, each with its event', async () => {
    const { admin, putRole, removeRole, roles } = await asAdministrator();
    const name = newName();
    const created = await done(system(), putRole(name, ['users:read', 'app:tickets', 'users:read'], 'Support'));
    assert.equal(created.status, 201);
    assert.equal(created.headers.location, `/roles/${name}`);
    assert.deepEqual(created.body, {
      name,
      description: 'Support',
      permissions: ['app:tickets', 'users:read'],
      created_at: new Date(system().clock.now()).toISOString(),
    });
    const by = 'administrator';
    const creation = await newestEvent(system(), 'role.created', null);
    assert.deepEqual(creation.details, { role: name, added: 'app:tickets,users:read', removed: '', by });
    assert.equal(creation.actorId, admin.id);

    system().clock.advanceSeconds(1);
    const changed = await done(system(), putRole(name, ['users:read', 'app:more'], 'Support'));
    assert.deepEqual([changed.status, changed.body.permissions], [200, ['app:more', 'users:read']]);
    assert.equal(changed.body.created_at, created.body.created_at);
    const change = await newestEvent(system(), 'role.updated', null);
    assert.deepEqual(change.details, { role: name, added: 'app:more', removed: 'app:tickets', by });

    assert.equal((await call(system(), removeRole(name))).status, 204);
    assert.deepEqual((await newestEvent(system(), 'role.deleted', null)).details, { role: name, by });
    const { items } = (await done(system(), roles())).body;
    assert.ok(!items.some((role: { name: string }) => role.name === name));
    await assertRefused(system(), removeRole(name), 'not_found');
  });

  test('putting a role as it is changes nothing and is no event', async () => {
    const { putRole } = await asAdministrator();
    const name = newName();
    const { body } = await done(system(), putRole(name, ['users:read']));
    const count = async () => (await system().deps.db.selectFrom('audit_events').select('id').execute()).length;
    const before = await count();
    system().clock.advanceSeconds(1);
    assert.deepEqual((await done(system(), putRole(name, ['users:read']))).body, body);
    assert.equal(await count(), before);
  });

  test('admin can be neither changed nor deleted, and user only changed', async () => {
    const { putRole, removeRole } = await asAdministrator();
    for (const request of [putRole('admin', ['users:read']), removeRole('admin'), removeRole('user')]) {
      await assertRefused(system(), request, 'protected_role');
    }
    await done(system(), putRole('user', ['app:basic']));
    const user = await registerUser(system());
    const claims = decodeJwt(user.accessToken);
    assert.deepEqual([claims.roles, claims.permissions], [['user'], ['app:basic']]);
    await done(system(), putRole('user', []));
  });

  test('roles and permissions go into the access token, each permission once', async () => {
    const user = await registerWith(system(), ['users:read', 'app:b']);
    await giveRole(system(), user.id, await makeRole(system(), ['users:read', 'app:a']));
    const { access_token: token } = (await logIn(system(), user.email, user.password)).body;
    const { roles, permissions } = decodeJwt(token) as { roles: string[]; permissions: string[] };
    assert.equal(roles.length, 3);
    assert.deepEqual(permissions, ['app:a', 'app:b', 'users:read']);
  });

  test('a role that changes or goes is effective on the next request of everybody who has it', async () => {
    const { putRole, removeRole } = await asAdministrator();
    const name = newName();
    await done(system(), putRole(name, ['users:read']));
    const users = await Promise.all([1, 2, 3].map(() => registerUser(system())));
    for (const { id } of users) await giveRole(system(), id, name);
    const lists = users.map(({ accessToken }) => administration(accessToken).list());
    for (const list of lists) await done(system(), list);
    await done(system(), putRole(name, ['roles:read']));
    for (const list of lists)
      assertProblem(await call(system(), list), 'insufficient_permission', { detail: 'This needs users:read.' });
    await done(system(), putRole(name, ['users:read']));
    for (const list of lists) await done(system(), list);
    await done(system(), removeRole(name));
    for (const list of lists)
      assertProblem(await call(system(), list), 'insufficient_permission', { detail: 'This needs users:read.' });
    const { db } = system().deps;
    assert.deepEqual(await db.selectFrom('user_roles').selectAll().where('role_name', '=', name).execute(), []);
  });

  test('nobody puts into a role what they do not hold, or takes it out', async () => {
    const keeper = administration((await registerWith(system(), ['roles:write', 'users:read', 'app:own'])).accessToken);
    const name = newName();
    for (const permission of ['audit:read', 'app:other', 'roles:assign']) {
      await assertRefused(
        system(),
        keeper.putRole(name, ['users:read', permission]),
        'insufficient_permission',
        notGrantable,
      );
    }
    await done(system(), keeper.putRole(name, ['users:read', 'app:own']));
    const greater = await makeRole(system(), ['users:read', 'audit:read']);
    for (const request of [
      keeper.putRole(greater, ['users:read']),
      keeper.putRole(greater, []),
      keeper.removeRole(greater),
    ]) {
      await assertRefused(system(), request, 'insufficient_permission', notGrantable);
    }
    await done(system(), keeper.removeRole(name));
  });

  test('nobody raises themselves by the role that they have', async () => {
    const role = await makeRole(system(), ['roles:write', 'roles:assign']);
    const user = await registerUser(system());
    await giveRole(system(), user.id, role);
    const { putRole, assign } = administration(user.accessToken);
    const raise = putRole(role, ['roles:write', 'roles:assign', 'users:write']);
    await assertRefused(system(), raise, 'insufficient_permission', notGrantable);
    const own = assign(user.id, [role, 'admin']);
    await assertRefused(system(), own, 'insufficient_permission', notGrantable);
  });

  test('an administrator may give the application’s own permissions, which need no holder before', async () => {
    const { putRole, assign } = await asAdministrator();
    const name = newName();
    await done(system(), putRole(name, ['app:anything/at:all_is.fine-here']));
    const user = await registerUser(system());
    await done(system(), assign(user.id, [name]));
    const { access_token: token } = (await logIn(system(), user.email, user.password)).body;
    assert.deepEqual(decodeJwt(token).permissions, ['app:anything/at:all_is.fine-here']);
  });

  test('a permission that is not known is refused by its place', async () => {
    const { putRole } = await asAdministrator();
    const wrong = ['users:delete', 'app:', 'app', 'APP:x', 'app:*', 'app:a b', 'app:é', '*', 'users:read ', 'app:a\n'];
    const errors = [{ path: '/permissions/1', message: `must match pattern "${permissionPattern}"` }];
    for (const permission of wrong) {
      await assertRefused(system(), putRole(newName(), ['users:read', permission]), 'validation_failed', { errors });
    }
  });

  test('the name of a role is plain and short', async () => {
    const { putRole } = await asAdministrator();
    const message = 'must begin with a small letter or digit and hold only these, ".", "_" and "-"';
    for (const name of ['Admin', '.x', '-x', 'a%20b', 'a%2Fb', '%C3%A9', 'admin%00']) {
      const errors = [{ path: 'name', message }];
      await assertRefused(system(), putRole(name, []), 'validation_failed', { errors });
    }
    await done(system(), putRole('a'.repeat(64), []));
    await done(
      system(),
      administration((await registerAdministrator(system())).accessToken).removeRole('a'.repeat(64)),
    );
  });

  test('changing roles needs a recent authentication, reading them does not', async () => {
    const { putRole, removeRole, roles } = await asAdministrator();
    const name = await makeRole(system(), []);
    system().clock.advanceSeconds(301);
    for (const request of [putRole(name, ['users:read']), removeRole(name)]) {
      await assertRefused(system(), request, 'insufficient_user_authentication', { max_age: 300 });
    }
    await done(system(), roles());
  });
});

describeOnBackends('the limits of roles', {}, (system) => {
  const longName = (index: number) => `r${String(index).padStart(63, '0')}`;

  test('there are a hundred roles at most, and the tokens of whoever has twenty with every permission fit', async () => {
    const admin = await registerAdministrator(system());
    const { putRole, assign, removeRole } = administration(admin.accessToken);
    // As many permissions as fit together, spread over as many roles as a user may have.
    const permissions = Array.from(
      { length: 44 },
      (_, index) => `app:${String(index).padStart(2, '0')}${'x'.repeat(57)}`,
    );
    for (let index = 0; index < 20; index += 1) {
      await done(system(), putRole(longName(index), permissions.slice(Math.max(0, index * 2 - 4), index * 2 + 7)));
    }
    const one = putRole(longName(20), [
      'app:one-more',
      ...Array.from({ length: 4 }, (_, at) => `app:${at}${'y'.repeat(58)}`),
    ]);
    await assertRefused(system(), one, 'role_limit_reached');
    const user = await registerUser(system());
    const names = Array.from({ length: 19 }, (_, index) => longName(index + 1));
    await done(system(), assign(user.id, ['admin', ...names]));
    const login = await logIn(system(), user.email, user.password);
    assert.equal(login.status, 200, login.text);
    const token: string = login.body.access_token;
    // Issuer and audience may be 500 characters longer than here.
    assert.ok(token.length < 8_192 - (500 * 4) / 3, `${token.length} characters`);
    assert.deepEqual(decodeJwt(token).permissions, [...permissions, ...everyPermission].sort());
    const row = (index: number) => ({ name: longName(index), description: '', permissions: '[]', created_at: 1 });
    await system()
      .deps.db.insertInto('roles')
      .values(Array.from({ length: 78 }, (_, index) => row(20 + index)))
      .execute();
    await assertRefused(system(), putRole('one-too-many', []), 'role_limit_reached');
    await done(system(), putRole(longName(30), ['users:read'], 'One that is there may change'));
    await done(system(), removeRole(longName(30)));
    await done(system(), putRole('one-in-its-place', []));
  });
});
