import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { registerUser, type TestUser } from './accounts.ts';
import { type Call, call, type Reply } from './client.ts';
import type { System } from './system.ts';

/** Registers a user and makes them an administrator behind the service's back, as the first one is made. */
export async function registerAdministrator(system: System): Promise<TestUser> {
  const user = await registerUser(system);
  await giveRole(system, user.id, 'admin');
  return user;
}

/** Registers a user with a role of their own that holds these permissions. */
export async function registerWith(system: System, permissions: readonly string[]): Promise<TestUser> {
  const user = await registerUser(system);
  await giveRole(system, user.id, await makeRole(system, permissions));
  return user;
}

/** Makes a role behind the service's back. Returns its name, which no other test uses. */
export async function makeRole({ deps }: System, permissions: readonly string[]): Promise<string> {
  const name = `role-${randomBytes(6).toString('hex')}`;
  const row = { name, description: '', permissions: JSON.stringify(permissions), created_at: deps.clock.now() };
  await deps.db.insertInto('roles').values(row).execute();
  return name;
}

/** Takes every administrator's role away, so that a test can say who is the last one. */
export async function removeAdministrators({ deps }: System): Promise<void> {
  const rows = await deps.db.deleteFrom('user_roles').where('role_name', '=', 'admin').returning('user_id').execute();
  for (const { user_id: userId } of rows) await deps.sessionCache?.block(userId);
}

/** Gives a role behind the service's back. */
export async function giveRole({ deps }: System, userId: string, role: string): Promise<void> {
  await deps.db.insertInto('user_roles').values({ user_id: userId, role_name: role }).execute();
  await deps.sessionCache?.block(userId);
}

/** The requests of the administration, by whoever has this token. */
export function administration(token: string) {
  const request = (method: Call['method'], path: string, body?: unknown): Call => ({
    method,
    path,
    token,
    ...(body === undefined ? {} : { body }),
  });
  return {
    list: (query = '') => request('GET', `/users${query}`),
    read: (id: string) => request('GET', `/users/${id}`),
    create: (body: unknown) => request('POST', '/users', body),
    change: (id: string, body: unknown) => request('PATCH', `/users/${id}`, body),
    remove: (id: string) => request('DELETE', `/users/${id}`),
    assign: (id: string, roles: readonly string[]) => request('PUT', `/users/${id}/roles`, { roles }),
    sessions: (id: string, query = '') => request('GET', `/users/${id}/sessions${query}`),
    endSessions: (id: string) => request('DELETE', `/users/${id}/sessions`),
    roles: () => request('GET', '/roles'),
    putRole: (name: string, permissions: readonly string[], description = 'A role') =>
      request('PUT', `/roles/${name}`, { description, permissions }),
    removeRole: (name: string) => request('DELETE', `/roles/${name}`),
    events: (query = '') => request('GET', `/audit-events${query}`),
  };
}

/** Makes a request that must be carried out. */
export async function done(system: System, request: Call): Promise<Reply> {
  const reply = await call(system, request);
  assert.ok(reply.status < 300, `${request.method} ${request.path}: ${reply.status} ${reply.text}`);
  return reply;
}

/** Reads the newest event of a type, as the audit trail shows it. */
export async function newestEvent(system: System, type: string, userId: string | null) {
  const row = await system.deps.db
    .selectFrom('audit_events')
    .selectAll()
    .where('type', '=', type)
    .where('user_id', userId === null ? 'is' : '=', userId)
    .orderBy('occurred_at', 'desc')
    .orderBy('id', 'desc')
    .executeTakeFirst();
  assert.ok(row, `there is no event ${type}`);
  return { actorId: row.actor_id, clientAddress: row.client_address, details: JSON.parse(row.details) };
}
