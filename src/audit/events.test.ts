import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import {
  disableUser,
  goodPassword,
  newEmail,
  obtainCode,
  openSession,
  proveAddress,
  refresh,
  registerUser,
  sendCode,
  type TestUser,
} from '../../test/accounts.ts';
import { type Act, administrationActs, type Expected } from '../../test/administration-acts.ts';
import { callAndListEvents, listNewEvents, place, sealAll } from '../../test/audit.ts';
import { type Call, call } from '../../test/client.ts';
import { newSecret } from '../../test/config.ts';
import { ask, complete, obtainChangeCode, prove as proveChange } from '../../test/email-change.ts';
import { guessOften } from '../../test/guessing.ts';
import { importLines } from '../../test/importing.ts';
import { newPassword, prove, reset } from '../../test/password-reset.ts';
import { describeOnBackends, type System } from '../../test/system.ts';
import { createKeyring } from '../crypto/secrets.ts';
import type { AuditEventRow } from '../db/schema.ts';
import { listSigningKeyInfo, rememberSecrets } from '../keys/flow.ts';
import { revokeSigningKey } from '../keys/revocation.ts';
import { rotateSigningKeys } from '../keys/rotation.ts';
import { exportUsers } from '../users/export-flow.ts';
import { createActiveUser } from '../users/flow.ts';
import { type AuditEventType, auditVocabulary, type DetailsOf } from './events.ts';
import { erasePending } from './flow.ts';
import { expireEventsAfter } from './retention.ts';

const nobody = { user: null, actor: null } as const;
const sessionOf = (refreshToken: string) => refreshToken.split('.')[1] ?? '';
const post = (path: string, body: unknown, token?: string): Call => {
  return { method: 'POST', path, body, ...(token === undefined ? {} : { token }) };
};
const login = (email: string, password: string) => post('/auth/login', { email, password });
const send = (email: string, purpose: string) => post('/auth/send-code', { email, purpose });
const guess = (email: string, purpose: string) => post('/auth/verify-code', { email, purpose, code: '000000' });
const noticed = (user: string): Expected => ({ type: 'device.noticed', user, details: { device: 'Linux' } });

async function disabledUser(system: System): Promise<TestUser> {
  const user = await registerUser(system);
  await disableUser(system, user.id);
  return user;
}

const refused = (type: 'code.refused', user: string | null, purpose: string): Expected[] => {
  return [{ type, user, actor: null, details: { purpose } }];
};

const acts: Record<string, Act> = {
  'a registration': async (system) => {
    const verification_token = await proveAddress(system, newEmail(), 'registration');
    return {
      request: post('/auth/register', { verification_token, password: goodPassword }),
      status: 201,
      expected: ({ body }) => [
        { type: 'user.registered', user: body.user.id, details: { session_id: sessionOf(body.refresh_token) } },
      ],
    };
  },
  'a code for a new address': async () => ({
    request: send(newEmail(), 'registration'),
    status: 202,
    expected: () => [{ type: 'code.sent', ...nobody, details: { purpose: 'registration', is_mailed: true } }],
  }),
  'a registration of an address that is taken': async (system) => {
    const { email, id } = await registerUser(system);
    system.clock.advanceSeconds(61);
    const expected = (): Expected[] => [{ type: 'registration.refused', user: id, actor: null, details: {} }];
    return { request: send(email, 'registration'), status: 202, expected };
  },
  'a code for a login': async (system) => {
    const { email, id } = await registerUser(system);
    system.clock.advanceSeconds(61);
    const details = { purpose: 'login', is_mailed: true };
    return {
      request: send(email, 'login'),
      status: 202,
      expected: () => [{ type: 'code.sent', user: id, actor: null, details }],
    };
  },
  'a code for an unknown address': async () => ({
    request: send(newEmail(), 'login'),
    status: 202,
    expected: () => [{ type: 'code.sent', ...nobody, details: { purpose: 'login', is_mailed: false } }],
  }),
  'a code for a disabled account': async (system) => {
    const { email, id } = await disabledUser(system);
    system.clock.advanceSeconds(61);
    const details = { purpose: 'password_reset', is_mailed: false };
    return {
      request: send(email, 'password_reset'),
      status: 202,
      expected: () => [{ type: 'code.sent', user: id, actor: null, details }],
    };
  },
  'a code too many, which is only counted': async (system) => {
    const email = newEmail();
    await sendCode(system, email, 'login');
    return { request: send(email, 'login'), status: 429, expected: () => [] };
  },
  'a right code, of which the act that it is for tells': async (system) => {
    const email = newEmail();
    const code = await obtainCode(system, email, 'registration');
    const request = post('/auth/verify-code', { email, purpose: 'registration', code });
    return { request, status: 200, expected: () => [] };
  },
  'a wrong code of a user': async (system) => {
    const { email, id } = await registerUser(system);
    const expected = () => refused('code.refused', id, 'login');
    return { request: guess(email, 'login'), status: 400, expected };
  },
  'a wrong code of a disabled user': async (system) => {
    const { email, id } = await disabledUser(system);
    const expected = () => refused('code.refused', id, 'password_reset');
    return { request: guess(email, 'password_reset'), status: 400, expected };
  },
  'a wrong code of an unknown address': async () => ({
    request: guess(newEmail(), 'registration'),
    status: 400,
    expected: () => refused('code.refused', null, 'registration'),
  }),
  'a login from a new device': async (system) => {
    const { email, password, id } = await registerUser(system);
    return {
      request: login(email, password),
      status: 200,
      expected: ({ body }) => [
        noticed(id),
        {
          type: 'login.succeeded',
          user: id,
          details: { method: 'password', session_id: sessionOf(body.refresh_token) },
        },
      ],
    };
  },
  'a login over the cap': async (system) => {
    const user = await registerUser(system);
    for (let session = 1; session < 3; session += 1) await openSession(system, user);
    return {
      request: login(user.email, user.password),
      status: 200,
      expected: ({ body }) => [
        noticed(user.id),
        {
          type: 'login.succeeded',
          user: user.id,
          details: { method: 'password', session_id: sessionOf(body.refresh_token) },
        },
        { type: 'session.oldest_ended', user: user.id, details: { ended: 1 } },
      ],
    };
  },
  'a login with a wrong password': async (system) => {
    const { email, id } = await registerUser(system);
    return {
      request: login(email, 'not the password'),
      status: 401,
      expected: () => [
        { type: 'login.failed', user: id, actor: null, details: { method: 'password', attempt: 'compared' } },
      ],
    };
  },
  'a hundredth wrong password in a row': async (system) => {
    const { email, id } = await registerUser(system);
    await guessOften(system, email, 99);
    return {
      request: login(email, 'not the password'),
      status: 401,
      expected: () => [
        { type: 'login.failed', user: id, actor: null, details: { method: 'password', attempt: 'compared' } },
        { type: 'password.suspended', user: id, actor: null, details: { lane: 'public' } },
      ],
    };
  },
  'a login of an unknown address': async () => ({
    request: login(newEmail(), goodPassword),
    status: 401,
    expected: () => [{ type: 'login.failed', ...nobody, details: { method: 'password', attempt: 'compared' } }],
  }),
  'a login of a disabled account': async (system) => {
    const { email, password, id } = await disabledUser(system);
    return {
      request: login(email, password),
      status: 401,
      expected: () => [
        { type: 'login.failed', user: id, actor: null, details: { method: 'password', attempt: 'compared' } },
      ],
    };
  },
  'a login by code': async (system) => {
    const { email, id } = await registerUser(system);
    return {
      request: post('/auth/login/code', { verification_token: await prove(system, email, 'login') }),
      status: 200,
      expected: ({ body }) => [
        noticed(id),
        { type: 'login.succeeded', user: id, details: { method: 'code', session_id: sessionOf(body.refresh_token) } },
      ],
    };
  },
  'a login by code after the account was disabled': async (system) => {
    const { email, id } = await registerUser(system);
    const verification_token = await prove(system, email, 'login');
    await disableUser(system, id);
    return {
      request: post('/auth/login/code', { verification_token }),
      status: 400,
      expected: () => [
        { type: 'login.failed', user: id, actor: null, details: { method: 'code', attempt: 'compared' } },
      ],
    };
  },
  'a refresh, which happens all day': async (system) => {
    const { refreshToken } = await registerUser(system);
    return { request: post('/auth/refresh', { refresh_token: refreshToken }), status: 200, expected: () => [] };
  },
  'a refresh token that was used long ago': async (system) => {
    const { id, refreshToken } = await registerUser(system);
    const { body } = await refresh(system, refreshToken);
    await refresh(system, body.refresh_token);
    const details = { session_id: sessionOf(refreshToken) };
    return {
      request: post('/auth/refresh', { refresh_token: refreshToken }),
      status: 401,
      expected: () => [{ type: 'session.reuse_detected', user: id, actor: null, details }],
    };
  },
  'a refresh token that nobody made': async () => ({
    request: post('/auth/refresh', { refresh_token: 'nonsense' }),
    status: 401,
    expected: () => [],
  }),
  'a logout with the refresh token': async (system) => {
    const { id, refreshToken } = await registerUser(system);
    const details = { session_id: sessionOf(refreshToken), by: 'logout' };
    return {
      request: post('/auth/logout', { refresh_token: refreshToken }),
      status: 204,
      expected: () => [{ type: 'session.ended', user: id, details }],
    };
  },
  'a logout with the access token': async (system) => {
    const { id, refreshToken, accessToken: token } = await registerUser(system);
    const details = { session_id: sessionOf(refreshToken), by: 'logout' };
    return {
      request: { method: 'POST', path: '/auth/logout', token },
      status: 204,
      expected: () => [{ type: 'session.ended', user: id, details }],
    };
  },
  'a second logout': async (system) => {
    const { refreshToken } = await registerUser(system);
    const request = post('/auth/logout', { refresh_token: refreshToken });
    await call(system, request);
    return { request, status: 204, expected: () => [] };
  },
  'the end of one session': async (system) => {
    const user = await registerUser(system);
    const id = sessionOf((await openSession(system, user)).refreshToken);
    return {
      request: { method: 'DELETE', path: `/users/me/sessions/${id}`, token: user.accessToken },
      status: 204,
      expected: () => [{ type: 'session.ended', user: user.id, details: { session_id: id, by: 'owner' } }],
    };
  },
  'the end of all other sessions': async (system) => {
    const user = await registerUser(system);
    await openSession(system, user);
    return {
      request: { method: 'DELETE', path: '/users/me/sessions', token: user.accessToken },
      status: 204,
      expected: () => [{ type: 'session.others_ended', user: user.id, details: { ended: 1 } }],
    };
  },
  'a reauthentication': async (system) => {
    const { id, password, accessToken } = await registerUser(system);
    return {
      request: post('/auth/reauthenticate', { password }, accessToken),
      status: 204,
      expected: () => [{ type: 'session.reauthenticated', user: id, details: { method: 'password' } }],
    };
  },
  'a reauthentication with a wrong password': async (system) => {
    const { id, accessToken } = await registerUser(system);
    return {
      request: post('/auth/reauthenticate', { password: 'not the password' }, accessToken),
      status: 401,
      expected: () => [{ type: 'reauthentication.refused', user: id, details: { attempt: 'compared' } }],
    };
  },
  'a change of password, which cancels a change of address': async (system) => {
    const user = await registerUser(system);
    await openSession(system, user);
    await obtainChangeCode(system, user, newEmail());
    const body = { current_password: user.password, new_password: newPassword };
    return {
      request: { method: 'PUT', path: '/users/me/password', token: user.accessToken, body },
      status: 204,
      expected: () => [
        { type: 'email_change.cancelled', user: user.id, details: { by: 'password_change' } },
        { type: 'password.changed', user: user.id, details: { sessions_ended: 1 } },
      ],
    };
  },
  'a change of password with a wrong one': async (system) => {
    const { id, accessToken: token } = await registerUser(system);
    const body = { current_password: 'not the password', new_password: newPassword };
    return {
      request: { method: 'PUT', path: '/users/me/password', token, body },
      status: 401,
      expected: () => [{ type: 'password_change.refused', user: id, details: { attempt: 'compared' } }],
    };
  },
  'a reset of the password': async (system) => {
    const user = await registerUser(system);
    await obtainChangeCode(system, user, newEmail());
    return {
      request: reset(await prove(system, user.email)),
      status: 204,
      expected: () => [
        { type: 'email_change.cancelled', user: user.id, details: { by: 'password_reset' } },
        { type: 'password.reset', user: user.id, details: { sessions_ended: 1 } },
      ],
    };
  },
  'a reset of the password after a change of address has expired': async (system) => {
    const user = await registerUser(system);
    await obtainChangeCode(system, user, newEmail());
    system.clock.advanceSeconds(30 * 60);
    return {
      request: reset(await prove(system, user.email)),
      status: 204,
      expected: () => [{ type: 'password.reset', user: user.id, details: { sessions_ended: 1 } }],
    };
  },
  'a wish for another address': async (system) => {
    const user = await registerUser(system);
    return {
      request: ask(user, newEmail()),
      status: 202,
      expected: () => [{ type: 'email_change.requested', user: user.id, details: {} }],
    };
  },
  'a wish for an address that is taken, of which the export must not tell': async (system) => {
    const [user, owner] = [await registerUser(system), await registerUser(system)];
    system.clock.advanceSeconds(61);
    return {
      request: ask(user, owner.email),
      status: 202,
      expected: () => [{ type: 'email_change.requested', user: user.id, details: {} }],
    };
  },
  'a change of address': async (system) => {
    const user = await registerUser(system);
    return {
      request: complete(user, await proveChange(system, user, newEmail())),
      status: 200,
      expected: () => [{ type: 'email.changed', user: user.id, details: { sessions_ended: 0, by: 'owner' } }],
    };
  },
  'a change of the profile': async (system) => {
    const { id, accessToken: token } = await registerUser(system);
    return {
      request: { method: 'PATCH', path: '/users/me', token, body: { name: 'Ada', locale: 'en' } },
      status: 200,
      expected: () => [{ type: 'user.updated', user: id, details: { fields: 'name,locale', by: 'owner' } }],
    };
  },
  'a change of nothing': async (system) => {
    const { accessToken: token } = await registerUser(system);
    return { request: { method: 'PATCH', path: '/users/me', token, body: {} }, status: 200, expected: () => [] };
  },
  'an export': async (system) => {
    const { id, accessToken: token } = await registerUser(system);
    return {
      request: { method: 'GET', path: '/users/me/export', token },
      status: 200,
      expected: () => [{ type: 'data.exported', user: id, details: {} }],
    };
  },
  'a deletion': async (system) => {
    const { id, accessToken: token } = await registerUser(system);
    return {
      request: { method: 'DELETE', path: '/users/me', token },
      status: 204,
      expected: () => [{ type: 'user.deleted', user: id, details: {} }],
    };
  },
};

describeOnBackends('the audit trail', { SESSIONS_PER_USER_MAX: '3' }, (system) => {
  const seen = new Set<string>();

  /** Compares what was written with what must have been, and the details with what the vocabulary says of them. */
  function assertEvents(events: readonly AuditEventRow[], expected: readonly Expected[]): void {
    assert.deepEqual(
      events.map(({ type, user_id, actor_id, details }) => ({ type, user_id, actor_id, details: JSON.parse(details) })),
      expected.map(({ type, user, actor = user, details }) => ({ type, user_id: user, actor_id: actor, details })),
    );
    for (const event of events) {
      const { details } = auditVocabulary[event.type as AuditEventType];
      assert.deepEqual(Object.keys(JSON.parse(event.details)).sort(), Object.keys(details).sort());
      assert.equal(event.occurred_at, system().clock.now());
      seen.add(event.type);
    }
  }

  for (const [title, act] of Object.entries({ ...acts, ...administrationActs })) {
    test(`tells of ${title} with who, whom, from where and in which request`, async () => {
      const { request, status, expected } = await act(system());
      const { reply, events } = await callAndListEvents(system(), request);
      assert.equal(reply.status, status, reply.text);
      assertEvents(events, expected(reply));
      const [first] = events;
      for (const event of events) {
        assert.match(event.request_id ?? '', /^[0-9a-f-]{36}$/);
        assert.equal(event.request_id, reply.body?.request_id ?? first?.request_id);
        // By its owner: of any other the actor is not the one who is gone.
        const isBlanked = event.type === 'user.deleted' && event.actor_id === event.user_id;
        const origin = isBlanked ? [null, null] : [place.address, place.userAgent];
        assert.deepEqual([event.client_address, event.user_agent], origin);
      }
    });
  }

  /** What the service does by itself comes from nowhere. */
  async function assertOwnActs(act: () => Promise<unknown>, expected: () => Expected[]): Promise<void> {
    const known = new Set((await listNewEvents(system().deps, new Set())).map(({ id }) => id));
    await act();
    const events = await listNewEvents(system().deps, known);
    assertEvents(events, expected());
    for (const event of events) {
      assert.deepEqual([event.client_address, event.user_agent, event.request_id], [null, null, null]);
    }
  }

  test('tells of a rotation of the signing keys', async () => {
    let details: DetailsOf<'keys.rotated'> | undefined;
    const rotate = async () => {
      const rotated = await rotateSigningKeys(system().deps);
      details = rotated && { ...rotated, operator: '' };
    };
    await assertOwnActs(rotate, () => (details ? [{ type: 'keys.rotated', user: null, details }] : []));
  });

  test('tells of a signing key that the operator revoked', async () => {
    const [key] = await listSigningKeyInfo(system().deps.db);
    let details: DetailsOf<'keys.revoked'> | undefined;
    const revoke = async () => {
      const revoked = await revokeSigningKey(system().deps, key?.kid ?? '', 'ada');
      details = revoked && { activated: '', next: '', ...revoked, operator: 'ada' };
    };
    await assertOwnActs(revoke, () => (details ? [{ type: 'keys.revoked', user: null, details }] : []));
  });

  test('tells of a batch of imported users, and of an export', async () => {
    const { deps } = system();
    const details = { run: 'of the import', imported: 1, updated: 0 };
    const known = new Set((await listNewEvents(deps, new Set())).map(({ id }) => id));
    await importLines(system(), [{ email: newEmail() }]);
    const [imported] = await listNewEvents(deps, known);
    const { run } = JSON.parse(imported?.details ?? '{}');
    assert.match(run, /^[0-9a-f-]{36}$/);
    assertEvents(imported ? [imported] : [], [{ type: 'users.imported', user: null, details: { ...details, run } }]);
    const read = async () => {
      for await (const _piece of exportUsers(deps, { format: 'csv', withHashes: false }));
    };
    const exported = { type: 'users.exported', user: null, details: { with_hashes: false } } as const;
    await assertOwnActs(read, () => [exported]);
  });

  test('tells of an account that the operator made, with nobody as the actor', async () => {
    let id = '';
    const create = async () => {
      const account = await createActiveUser(system().deps, { email: newEmail(), password: goodPassword, profile: {} });
      id = account.id;
    };
    const details = { roles: 'user', by: 'operator' };
    await assertOwnActs(create, () => [{ type: 'user.created', user: id, actor: null, details }]);
  });

  test('tells once of a new value of SECRET_KEY', async () => {
    const { deps, clock } = system();
    const [newest, oldest] = [newSecret(), newSecret()];
    const rotated = { current: createKeyring([newest]).current, all: createKeyring([newest, oldest]).all };
    const boot = () => rememberSecrets(deps.db, rotated, clock.now());
    const fingerprints = rotated.all.map(({ fingerprint }) => fingerprint).sort();
    await assertOwnActs(boot, () =>
      fingerprints.map((fingerprint) => ({ type: 'secret.added', user: null, details: { fingerprint } })),
    );
    await assertOwnActs(boot, () => []);
  });

  test('tells when the last events of a deleted user are blank', async () => {
    const { db } = system().deps;
    const user = await registerUser(system());
    await db.insertInto('pending_erasures').values({ user_id: user.id, created_at: 0 }).execute();
    const erase = () => erasePending(db, system().clock.now(), 200);
    await assertOwnActs(erase, () => [
      { type: 'user.erased', user: user.id, actor: null, details: { by: 'deletion' } },
    ]);
    await assertOwnActs(erase, () => []);
  });

  test('tells of what the retention has removed', async () => {
    const { deps, clock } = system();
    const events = await sealAll(deps);
    const seals = Math.ceil(events / 200);
    clock.advanceSeconds(3 * 86_400);
    const expire = () => expireEventsAfter(deps, 1)(deps.db, clock.now(), events);
    await assertOwnActs(expire, () => [
      { type: 'audit.expired', user: null, details: { events, seals, through_seal: seals } },
    ]);
    await assertOwnActs(expire, () => []);
  });

  after(() => {
    assert.deepEqual(
      [...seen].sort(),
      Object.keys(auditVocabulary).sort(),
      'every type is written by one of these acts',
    );
  });
});
