import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  goodPassword,
  logIn,
  newEmail,
  obtainCode,
  readMe,
  registerUser,
  subjectsOfMails,
} from '../../test/accounts.ts';
import { administration, done, newestEvent, removeAdministrators } from '../../test/administrators.ts';
import { assertProblem, call } from '../../test/client.ts';
import { countRows, describeOnBackends, digestRows } from '../../test/system.ts';
import { AppError, type ErrorCode } from '../errors.ts';
import { assignRoles, deleteUserByAdministrator, disableUser, enableUser } from './changes.ts';
import { createActiveUser, createUser } from './flow.ts';

const operator = { kind: 'operator' } as const;

describeOnBackends('administration by the operator', {}, (system) => {
  /** Shows that an act is refused and leaves nothing behind. */
  async function refused(code: ErrorCode, act: () => Promise<unknown>): Promise<void> {
    const before = [await countRows(system()), await digestRows(system())];
    await assert.rejects(act, (error) => error instanceof AppError && error.code === code);
    assert.deepEqual([await countRows(system()), await digestRows(system())], before);
  }

  test('makes the first administrator, who can log in at once and administer', async () => {
    const { deps } = system();
    const email = newEmail();
    const made = await createActiveUser(deps, {
      email,
      profile: { name: 'Ada' },
      roles: ['admin', 'user'],
      password: goodPassword,
    });
    assert.deepEqual([made.status, made.roles, made.name], ['active', ['admin', 'user'], 'Ada']);
    const event = await newestEvent(system(), 'user.created', made.id);
    assert.deepEqual(event, { actorId: null, clientAddress: null, details: { roles: 'admin,user', by: 'operator' } });
    const login = await logIn(system(), email, goodPassword);
    await done(system(), administration(login.body.access_token).list());
  });

  test('makes no account with a password that is not acceptable, a role that is not there or an address that is taken', async () => {
    const { deps } = system();
    const { email: taken } = await registerUser(system());
    const user = { email: newEmail(), profile: {}, password: goodPassword };
    await refused('password_rejected', () => createActiveUser(deps, { ...user, password: 'password1' }));
    await refused('validation_failed', () => createActiveUser(deps, { ...user, roles: ['nothing'] }));
    await refused('validation_failed', () => createActiveUser(deps, { ...user, email: 'no address' }));
    await refused('account_exists', () => createActiveUser(deps, { ...user, email: taken }));
    await refused('account_exists', () => createUser(deps, operator, { ...user, email: taken }, undefined));
  });

  test('invites without a code, for which the invited ask themselves', async () => {
    const email = newEmail();
    const made = await createUser(system().deps, operator, { email, profile: {}, roles: ['admin'] }, undefined);
    assert.equal(made.status, 'invited');
    assert.deepEqual(await subjectsOfMails(system(), email), ['You are invited']);
    const code = await obtainCode(system(), email, 'registration');
    const proof = { email, purpose: 'registration', code };
    const { body } = await call(system(), { method: 'POST', path: '/auth/verify-code', body: proof });
    const registration = { verification_token: body.verification_token, password: goodPassword };
    const registered = await call(system(), { method: 'POST', path: '/auth/register', body: registration });
    assert.deepEqual([registered.body.user.id, registered.body.user.roles], [made.id, ['admin']]);
  });

  test('gives roles, disables, enables and deletes, and is nobody in the events', async () => {
    const { deps } = system();
    const user = await registerUser(system());
    await assignRoles(deps, operator, user.id, ['admin'], undefined);
    await disableUser(deps, operator, user.id, undefined);
    assertProblem(await readMe(system(), user.accessToken), 'invalid_token');
    await enableUser(deps, operator, user.id, undefined);
    assert.equal((await logIn(system(), user.email, user.password)).status, 200);
    for (const type of ['user.roles_changed', 'user.disabled', 'user.enabled']) {
      const event = await newestEvent(system(), type, user.id);
      assert.deepEqual([event.actorId, event.details.by], [null, 'operator'], type);
    }
    await deleteUserByAdministrator(deps, operator, user.id, undefined);
    assert.equal((await newestEvent(system(), 'user.deleted', user.id)).actorId, null);
    await refused('not_found', () => deleteUserByAdministrator(deps, operator, user.id, undefined));
  });

  test('does not take the last administrator away either', async () => {
    await removeAdministrators(system());
    const { deps } = system();
    const { id } = await registerUser(system());
    await assignRoles(deps, operator, id, ['admin'], undefined);
    await refused('last_administrator', () => disableUser(deps, operator, id, undefined));
    await refused('last_administrator', () => deleteUserByAdministrator(deps, operator, id, undefined));
    await refused('last_administrator', () => assignRoles(deps, operator, id, ['user'], undefined));
  });
});
