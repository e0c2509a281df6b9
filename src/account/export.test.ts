import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  goodPassword,
  newEmail,
  newestMail,
  openSession,
  readMe,
  registerUser,
  sendCode,
  type TestUser,
} from '../../test/accounts.ts';
import { assertRefused, assertRefusedAndRecorded, type Call, call, type Reply, takeStock } from '../../test/client.ts';
import { describeOnBackends, type System } from '../../test/system.ts';
import { unseal } from '../crypto/secrets.ts';

const firefox = 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0';

// Digests and seals of secrets, and what only keeps the service's own books. Everything else that a table
// holds about a person must be in the export.
const withheld: Record<string, readonly string[]> = {
  users: ['password_hash', 'proofs_valid_from'],
  user_roles: ['user_id'],
  sessions: ['user_id', 'generation', 'salt', 'expires_at'],
  pending_email_changes: ['user_id', 'created_at', 'expires_at'],
  known_devices: ['user_id', 'fingerprint'],
  audit_events: [
    'id',
    'user_id',
    'actor_id',
    'request_id',
    'seal_seq',
    'seal_origin_salt',
    'seal_origin_commitment',
    'seal_details_salt',
    'seal_details_commitment',
  ],
};
type PersonalTable = 'user_roles' | 'sessions' | 'pending_email_changes' | 'known_devices' | 'audit_events';

async function readRows({ deps }: System, userId: string): Promise<Record<string, Record<string, unknown>[]>> {
  const { db } = deps;
  const of = (table: PersonalTable) => db.selectFrom(table).selectAll().where('user_id', '=', userId).execute();
  return {
    users: await db.selectFrom('users').selectAll().where('id', '=', userId).execute(),
    user_roles: await of('user_roles'),
    sessions: await of('sessions'),
    pending_email_changes: await of('pending_email_changes'),
    known_devices: await of('known_devices'),
    audit_events: await of('audit_events'),
  };
}

describeOnBackends('export', {}, (system) => {
  function exportOf(user: TestUser): Call {
    return { method: 'GET', path: '/users/me/export', token: user.accessToken };
  }

  async function exportOk(user: TestUser): Promise<Reply> {
    const reply = await call(system(), exportOf(user));
    assert.equal(reply.status, 200, reply.text);
    return reply;
  }

  /** A user of whom every table holds something. */
  async function registerRichUser(): Promise<TestUser> {
    const metadata = { plan: 'paid', nested: { list: [1, 'two'] } };
    const user = await registerUser(system(), { name: 'Ada Lovelace', locale: 'en-GB', metadata });
    system().clock.advanceSeconds(1);
    const body = { email: user.email, password: user.password };
    const headers = { 'user-agent': firefox };
    const remoteAddress = '198.51.100.7';
    const login = await call(system(), { method: 'POST', path: '/auth/login', body, headers, remoteAddress });
    assert.equal(login.status, 200);
    system().clock.advanceSeconds(1);
    const change: Call = {
      method: 'POST',
      path: '/users/me/email',
      token: user.accessToken,
      body: { email: newEmail() },
    };
    assert.equal((await call(system(), change)).status, 202);
    system().clock.advanceSeconds(1);
    const patch: Call = { method: 'PATCH', path: '/users/me', token: user.accessToken, body: { name: 'Ada' } };
    assert.equal((await call(system(), patch)).status, 200);
    return user;
  }

  test('the export holds the account, the sessions, the devices, the change under way and the events', async () => {
    const user = await registerRichUser();
    const reply = await exportOk(user);
    assert.equal(reply.headers['cache-control'], 'no-store');
    assert.equal(reply.headers['content-disposition'], 'attachment; filename="account.json"');
    const { body } = reply;
    assert.equal(body.exported_at, new Date(system().clock.now()).toISOString());
    assert.deepEqual(body.user, (await readMe(system(), user.accessToken)).body);
    assert.equal(body.has_password, true);
    const [login, registration] = body.sessions;
    assert.deepEqual(
      [login.device, login.user_agent, login.client_address],
      ['Firefox on Linux', firefox, '198.51.100.7'],
    );
    assert.equal(registration.id, user.refreshToken.split('.')[1]);
    assert.equal(body.known_devices.length, 2);
    const types = body.events.map((event: { type: string }) => event.type);
    assert.deepEqual(types, [
      'data.exported',
      'user.updated',
      'email_change.requested',
      'login.succeeded',
      'device.noticed',
      'user.registered',
    ]);
  });

  test('every value that any table holds about the user is in it, but for secrets and bookkeeping', async () => {
    const user = await registerRichUser();
    const { body } = await exportOk(user);
    const leaves = new Set(leavesOf(body).map(String));
    for (const [table, rows] of Object.entries(await readRows(system(), user.id))) {
      assert.ok(rows.length > 0, `${table} holds nothing, so that nothing is shown`);
      for (const row of rows) {
        for (const [column, value] of Object.entries(row)) {
          if (value === null || withheld[table]?.includes(column)) continue;
          const held = typeof value === 'number' ? [new Date(value).toISOString()] : leavesOf(parse(String(value)));
          for (const leaf of held) assert.ok(leaves.has(String(leaf)), `${table}.${column} (${leaf}) is missing`);
        }
      }
    }
  });

  test('no secret, and no digest of one, is in it', async () => {
    const user = await registerRichUser();
    await call(system(), { method: 'POST', path: '/auth/refresh', body: { refresh_token: user.refreshToken } });
    const { text } = await exportOk(user);
    const rows = await readRows(system(), user.id);
    const secrets = [
      ...(rows.users ?? []).map((row) => row.password_hash),
      ...(rows.sessions ?? []).map((row) => row.salt),
      ...(rows.known_devices ?? []).map((row) => row.fingerprint),
      user.accessToken,
      user.refreshToken,
      goodPassword,
    ];
    for (const secret of secrets) assert.ok(!text.includes(String(secret)), `${secret} must not be shown`);
    assert.doesNotMatch(text, /salt|hash"|fingerprint|sealed|generation|lk1:/);
  });

  test('nothing of anybody else is in it', async () => {
    const stranger = await registerRichUser();
    const user = await registerRichUser();
    const { text } = await exportOk(user);
    const strange = (await readRows(system(), stranger.id)).sessions ?? [];
    for (const theirs of [stranger.id, stranger.email, ...strange.map((row) => String(row.id))]) {
      assert.ok(!text.includes(theirs));
    }
  });

  test('an account without a password, a name or a change under way says so', async () => {
    const user = await registerUser(system());
    const { db } = system().deps;
    await db.updateTable('users').set({ password_hash: null }).where('id', '=', user.id).execute();
    const { body } = await exportOk(user);
    assert.deepEqual([body.has_password, body.pending_email_change, body.user.name], [false, null, null]);
  });

  test('a change of address that has expired and a session that has expired are no longer held to be there', async () => {
    const user = await registerRichUser();
    system().clock.advanceSeconds(7 * 24 * 60 * 60);
    const fresh = await openSession(system(), user);
    const { body } = await exportOk(fresh);
    assert.equal(body.pending_email_change, null);
    assert.equal(body.sessions.length, 1);
  });

  test('every export is recorded, also in itself', async () => {
    const user = await registerUser(system());
    const before = await takeStock(system());
    await exportOk(user);
    const after = await takeStock(system());
    assert.deepEqual(after, { ...before, audit_events: (before.audit_events ?? 0) + 1 });
    const { body } = await exportOk(user);
    const exports = body.events.filter((event: { type: string }) => event.type === 'data.exported');
    assert.equal(exports.length, 2);
  });

  test('it needs a recent authentication and an access token', async () => {
    const user = await registerUser(system());
    const { token: _token, ...anonymous } = exportOf(user);
    await assertRefused(system(), anonymous, 'authentication_required');
    system().clock.advanceSeconds(300);
    await exportOk(user);
    system().clock.advanceSeconds(1);
    const reply = await assertRefused(system(), exportOf(user), 'insufficient_user_authentication', { max_age: 300 });
    assert.match(reply.headers['www-authenticate'] ?? '', /max_age="300"/);
  });

  test('deletion removes everything that an export would have shown, and nothing of anybody else', async () => {
    const stranger = await registerRichUser();
    const theirs = await readRows(system(), stranger.id);
    const user = await registerRichUser();
    const { accessToken: token } = user;
    assert.equal((await call(system(), { method: 'DELETE', path: '/users/me', token })).status, 204);
    const { audit_events: events, ...rows } = await readRows(system(), user.id);
    for (const [table, left] of Object.entries(rows)) assert.deepEqual(left, [], table);
    for (const event of events ?? []) {
      assert.deepEqual([event.client_address, event.user_agent, event.details], [null, null, '{}']);
    }
    assert.deepEqual(await readRows(system(), stranger.id), theirs);
  });

  test('deletion ends the code that was sent for a change of address', async () => {
    const user = await registerUser(system());
    const email = newEmail();
    const { accessToken: token } = user;
    await call(system(), { method: 'POST', path: '/users/me/email', token, body: { email } });
    const code = (await newestMail(system(), email))?.subject.slice(0, 6);
    assert.equal((await call(system(), { method: 'DELETE', path: '/users/me', token })).status, 204);
    const body = { email, purpose: 'email_change', code };
    await assertRefusedAndRecorded(
      system(),
      { method: 'POST', path: '/auth/verify-code', body },
      'invalid_code',
      'code.refused',
    );
  });
});

// Nothing listens on the discard port here, so that every mail waits.
describeOnBackends('deletion while mail waits', { SMTP_URL: 'smtp://127.0.0.1:9' }, (system) => {
  async function waitingMails() {
    const { db, keyring } = system().deps;
    const rows = await db.selectFrom('outbox').selectAll().orderBy('id').execute();
    return rows.map((row) => {
      const { to, subject } = JSON.parse(unseal(keyring, row.sealed_message, `outbox/${row.id}`));
      return { userId: row.user_id, to: String(to), subject: String(subject) };
    });
  }

  async function register(): Promise<TestUser> {
    const email = newEmail();
    await sendCode(system(), email, 'registration');
    const mail = (await waitingMails()).findLast(({ to }) => to === email);
    const verify = { email, purpose: 'registration', code: mail?.subject.slice(0, 6) };
    const proved = await call(system(), { method: 'POST', path: '/auth/verify-code', body: verify });
    const body = { verification_token: proved.body.verification_token, password: goodPassword };
    const reply = await call(system(), { method: 'POST', path: '/auth/register', body });
    const { access_token: accessToken, refresh_token: refreshToken, user } = reply.body;
    return { id: user.id, email, password: goodPassword, accessToken, refreshToken };
  }

  /** Leaves three mails about the user waiting: a new device, a changed password, a code. */
  async function makeMailWait(user: TestUser): Promise<void> {
    const body = { email: user.email, password: user.password };
    await call(system(), { method: 'POST', path: '/auth/login', body, headers: { 'user-agent': firefox } });
    const passwords = { current_password: user.password, new_password: 'quiet lantern over the harbour' };
    const { accessToken: token } = user;
    await call(system(), { method: 'PUT', path: '/users/me/password', token, body: passwords });
    system().clock.advanceSeconds(61);
    await sendCode(system(), user.email, 'login');
    const subjects = (await waitingMails()).filter(({ userId }) => userId === user.id).map(({ subject }) => subject);
    assert.match(
      subjects.join('|'),
      /^New login to your account\|Your password was changed\|\w{6} is your code to log in$/,
    );
  }

  test('mail that waits in the outbox goes with the account, and nobody else’s does', async () => {
    const [user, stranger] = [await register(), await register()];
    await makeMailWait(user);
    await makeMailWait(stranger);
    const { accessToken: token } = user;
    assert.equal((await call(system(), { method: 'DELETE', path: '/users/me', token })).status, 204);
    const left = await waitingMails();
    assert.equal(left.filter(({ userId }) => userId === user.id).length, 0);
    assert.equal(left.filter(({ userId }) => userId === stranger.id).length, 3);
  });
});

/** Every value of a JSON document that is neither an object nor a list. */
function leavesOf(value: unknown): unknown[] {
  if (value === null || typeof value !== 'object') return [value];
  return Object.values(value).flatMap(leavesOf);
}

/** Columns hold JSON as text; what is no object or list is the text itself. */
function parse(text: string): unknown {
  return /^[[{]/.test(text) ? JSON.parse(text) : text;
}
