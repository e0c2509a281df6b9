import assert from 'node:assert/strict';
import { test } from 'node:test';
import { registerUser } from '../../test/accounts.ts';
import { administration, done, registerAdministrator, removeAdministrators } from '../../test/administrators.ts';
import { assertRefused } from '../../test/client.ts';
import { administratorRaces } from '../../test/races/administrators.ts';
import { testRaces } from '../../test/races/races.ts';
import { describeOnBackends } from '../../test/system.ts';

describeOnBackends('the last administrator', {}, (system) => {
  test('cannot be demoted, disabled or deleted, by nobody and by no way', async () => {
    await removeAdministrators(system());
    const admin = await registerAdministrator(system());
    const { assign, change, remove, create } = administration(admin.accessToken);
    // Neither the disabled nor the invited could administer anything.
    const disabled = await registerUser(system());
    await done(system(), assign(disabled.id, ['admin']));
    await done(system(), change(disabled.id, { status: 'disabled' }));
    await done(system(), create({ email: `invited-${admin.email}`, roles: ['admin'] }));
    const requests = [assign(admin.id, ['user']), assign(admin.id, []), change(admin.id, { status: 'disabled' })];
    requests.push(remove(admin.id), { method: 'DELETE', path: '/users/me', token: admin.accessToken });
    for (const request of requests) await assertRefused(system(), request, 'last_administrator');
    await done(system(), change(admin.id, { name: 'Still here' }));
    await done(system(), remove(disabled.id));

    const next = await registerUser(system());
    await done(system(), assign(next.id, ['admin', 'user']));
    await done(system(), remove(admin.id));
    const last = administration(next.accessToken).remove(next.id);
    await assertRefused(system(), last, 'last_administrator');
  });

  test('the account of somebody who administers nothing is deleted while there is no administrator at all', async () => {
    await removeAdministrators(system());
    const user = await registerUser(system());
    await done(system(), { method: 'DELETE', path: '/users/me', token: user.accessToken });
    assert.deepEqual(await system().deps.db.selectFrom('users').select('id').where('id', '=', user.id).execute(), []);
  });

  testRaces(administratorRaces, system);
});
