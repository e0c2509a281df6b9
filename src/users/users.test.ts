import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  goodPassword,
  logIn,
  newEmail,
  openSession,
  proveAddress,
  readMe,
  refresh,
  registerUser,
  subjectsOfMails,
} from '../../test/accounts.ts';
import { administration, done, newestEvent, registerAdministrator } from '../../test/administrators.ts';
import { assertProblem, assertRefused, call } from '../../test/client.ts';
import { describeOnBackends } from '../../test/system.ts';
import { erasePending } from '../audit/flow.ts';
import { newId } from '../crypto/ids.ts';

const unknownId = '01978f6e-5c1a-7d2e-9b7a-2f8d1c3e4a5b';

describeOnBackends('administration of users', {}, (system) => {
  const asAdministrator = async () => {
    const admin = await registerAdministrator(system());
    return { admin, ...administration(admin.accessToken) };
  };

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

  test('of a deleted administrator who did very much the rest is blanked by the chores', async () => {
    const { admin } = await asAdministrator();
    await registerAdministrator(system());
    const { db } = system().deps;
    const row = { type: 'user.updated', actor_id: admin.id, client_address: '203.0.113.7', details: '{}' };
    const acts = Array.from({ length: 1_100 }, (_, index) => ({
      ...row,
      id: newId(),
      user_id: null,
      occurred_at: index,
    }));
    await db.insertInto('audit_events').values(acts).execute();
    await done(system(), { method: 'DELETE', path: '/users/me', token: admin.accessToken });
    const left = async () => {
      const query = db.selectFrom('audit_events').select('id').where('actor_id', '=', admin.id);
      return (await query.where('client_address', 'is not', null).execute()).length;
    };
    assert.equal(await left(), 100);
    const erased: number[] = [];
    do erased.push(await erasePending(db, system().clock.now(), 60));
    while (erased.at(-1) !== 0 && erased.length < 10);
    assert.deepEqual([erased, await left()], [[60, 40, 0], 0]);
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
});
