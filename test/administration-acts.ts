import type { AuditEventType, DetailsOf } from '../src/audit/events.ts';
import { newEmail, registerUser } from './accounts.ts';
import { administration, makeRole, registerAdministrator } from './administrators.ts';
import type { Call, Reply } from './client.ts';
import type { System } from './system.ts';

/** An event as it must be written; `actor` is the subject unless said otherwise. */
export type Expected = {
  [T in AuditEventType]: { type: T; user: string | null; actor?: string | null; details: DetailsOf<T> };
}[AuditEventType];

/** What is needed before the act, the request that does it, and what must be recorded of it. */
export type Act = (
  system: System,
) => Promise<{ request: Call; status: number; expected: (reply: Reply) => Expected[] }>;

async function prepare(system: System) {
  const [admin, user] = [await registerAdministrator(system), await registerUser(system)];
  return { actor: admin.id, user, requests: administration(admin.accessToken) };
}

const by = 'administrator';

/** What administrators do, with the events that it must write. */
export const administrationActs: Record<string, Act> = {
  'an invitation': async (system) => {
    const { actor, requests } = await prepare(system);
    return {
      request: requests.create({ email: newEmail() }),
      status: 201,
      expected: ({ body }) => [{ type: 'user.invited', user: body.id, actor, details: { roles: 'user', by } }],
    };
  },
  'a change of somebody’s name and address': async (system) => {
    const { actor, user, requests } = await prepare(system);
    return {
      request: requests.change(user.id, { name: 'Ada', email: newEmail() }),
      status: 200,
      expected: () => [
        { type: 'email.changed', user: user.id, actor, details: { sessions_ended: 1, by } },
        { type: 'user.updated', user: user.id, actor, details: { fields: 'name', by } },
      ],
    };
  },
  disabling: async (system) => {
    const { actor, user, requests } = await prepare(system);
    return {
      request: requests.change(user.id, { status: 'disabled' }),
      status: 200,
      expected: () => [{ type: 'user.disabled', user: user.id, actor, details: { sessions_ended: 1, by } }],
    };
  },
  enabling: async (system) => {
    const { actor, user, requests } = await prepare(system);
    await system.deps.db.updateTable('users').set({ status: 'disabled' }).where('id', '=', user.id).execute();
    return {
      request: requests.change(user.id, { status: 'active' }),
      status: 200,
      expected: () => [{ type: 'user.enabled', user: user.id, actor, details: { by } }],
    };
  },
  'other roles': async (system) => {
    const { actor, user, requests } = await prepare(system);
    const role = await makeRole(system, ['users:read']);
    const details = { added: role, removed: 'user', by };
    return {
      request: requests.assign(user.id, [role]),
      status: 200,
      expected: () => [{ type: 'user.roles_changed', user: user.id, actor, details }],
    };
  },
  'the end of somebody’s sessions': async (system) => {
    const { actor, user, requests } = await prepare(system);
    return {
      request: requests.endSessions(user.id),
      status: 204,
      expected: () => [{ type: 'user.sessions_ended', user: user.id, actor, details: { ended: 1, by } }],
    };
  },
  'a deletion of somebody': async (system) => {
    const { actor, user, requests } = await prepare(system);
    return {
      request: requests.remove(user.id),
      status: 204,
      expected: () => [{ type: 'user.deleted', user: user.id, actor, details: {} }],
    };
  },
  'a new role': async (system) => {
    const { actor, requests } = await prepare(system);
    const details = { role: 'auditor', added: 'audit:read', removed: '', by };
    return {
      request: requests.putRole('auditor', ['audit:read']),
      status: 201,
      expected: () => [{ type: 'role.created', user: null, actor, details }],
    };
  },
  'a changed role': async (system) => {
    const { actor, requests } = await prepare(system);
    const role = await makeRole(system, ['users:read']);
    const details = { role, added: 'audit:read', removed: 'users:read', by };
    return {
      request: requests.putRole(role, ['audit:read'], ''),
      status: 200,
      expected: () => [{ type: 'role.updated', user: null, actor, details }],
    };
  },
  'a deleted role': async (system) => {
    const { actor, requests } = await prepare(system);
    const role = await makeRole(system, []);
    return {
      request: requests.removeRole(role),
      status: 204,
      expected: () => [{ type: 'role.deleted', user: null, actor, details: { role, by } }],
    };
  },
};
