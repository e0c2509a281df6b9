import { recordEvent } from '../audit/flow.ts';
import { inTransaction } from '../db/database.ts';
import type { Db, RoleRow } from '../db/schema.ts';
import type { Deps } from '../deps.ts';
import { AppError, fieldRefused } from '../errors.ts';
import {
  administratorRole,
  firstRole,
  permissionPattern,
  permissionsOfRole,
  permissionsOfRoles,
} from '../permissions.ts';
import type { RequestContext } from '../request-context.ts';
import { blockAllCachedSessions } from '../sessions/cache.ts';
import { type Actor, actorIdOf, mannerOf, requireGrantable, requireRecentActor } from './actor.ts';
import { deleteRole, findRole, insertRole, listRoleRows, lockRoles, updateRole } from './store.ts';

/** A role as flows see it. */
export type Role = { name: string; description: string; permissions: readonly string[]; createdAtMs: number };

/** What a role is to be. */
export type RoleDefinition = { description: string; permissions: readonly string[] };

export const roleNameMaxLength = 64;
export const permissionsPerRoleMax = 50;
const rolesMax = 100;
// Whatever roles a user has, their permissions fit into an access token: all permissions that any role holds, as JSON.
const permissionsMaxBytes = 3 * 1024;

// Plain enough for a path, a token and a line of a log.
const namePattern = /^[a-z0-9][a-z0-9_.-]*$/;
const knownPermission = new RegExp(permissionPattern);

/** Lists every role in alphabetical order. */
export async function listRoles(deps: Deps): Promise<Role[]> {
  return (await listRoleRows(deps.db)).map(toRole);
}

/** Makes a role, or changes what it is: effective on the next request of everybody who has it. */
export async function putRole(
  deps: Deps,
  actor: Actor,
  input: { name: string; definition: RoleDefinition },
  context: RequestContext | undefined,
): Promise<{ role: Role; isNew: boolean }> {
  requireRecentActor(deps, actor);
  const { name } = input;
  if (name.length > roleNameMaxLength || !namePattern.test(name)) {
    throw fieldRefused('name', 'must begin with a small letter or digit and hold only these, ".", "_" and "-"');
  }
  const { definition } = input;
  const unknown = definition.permissions.findIndex((permission) => !knownPermission.test(permission));
  if (unknown !== -1) throw fieldRefused(`/permissions/${unknown}`, 'is not a permission');
  if (definition.permissions.length > permissionsPerRoleMax) {
    throw fieldRefused('/permissions', `must NOT have more than ${permissionsPerRoleMax} items`);
  }
  if (name === administratorRole) throw new AppError('protected_role');
  const permissions = [...new Set(definition.permissions)].sort();
  const columns = { description: definition.description, permissions: JSON.stringify(permissions) };
  return inTransaction(deps.db, (tx) => writeRole(deps, tx, { actor, name, columns }, context));
}

type RoleChange = { actor: Actor; name: string; columns: Pick<RoleRow, 'description' | 'permissions'> };

async function writeRole(
  deps: Deps,
  tx: Db,
  { actor, name, columns }: RoleChange,
  context: RequestContext | undefined,
): Promise<{ role: Role; isNew: boolean }> {
  const nowMs = deps.clock.now();
  await lockRoles(tx);
  const old = await findRole(tx, name);
  const row = { name, created_at: old?.created_at ?? nowMs, ...columns };
  // What it was, too: who may not give a permission may not take it from everybody either.
  requireGrantable(actor, old === undefined ? [row] : [old, row]);
  await requireRoom(tx, row);
  const change = describeChange(old, row);
  if (old !== undefined && change === undefined) return { role: toRole(row), isNew: false };
  if (old === undefined) await insertRole(tx, row);
  else await updateRole(tx, name, columns);
  const actorId = actorIdOf(actor);
  const details = { role: name, added: '', removed: '', by: mannerOf(actor), ...change };
  const type = old === undefined ? 'role.created' : 'role.updated';
  if (old !== undefined && old.permissions !== row.permissions) await blockAllCachedSessions(deps);
  await recordEvent(tx, { type, userId: null, actorId, details }, context, nowMs);
  return { role: toRole(row), isNew: old === undefined };
}

/** Deletes a role: everybody who has it loses it on their next request. */
export async function removeRole(
  deps: Deps,
  actor: Actor,
  name: string,
  context: RequestContext | undefined,
): Promise<void> {
  requireRecentActor(deps, actor);
  if (name === administratorRole || name === firstRole) throw new AppError('protected_role');
  await inTransaction(deps.db, async (tx) => {
    await lockRoles(tx);
    const old = await findRole(tx, name);
    if (old === undefined) throw new AppError('not_found');
    requireGrantable(actor, [old]);
    await blockAllCachedSessions(deps);
    await deleteRole(tx, name);
    const details = { role: name, by: mannerOf(actor) };
    const event = { type: 'role.deleted', userId: null, actorId: actorIdOf(actor), details } as const;
    await recordEvent(tx, event, context, deps.clock.now());
  });
}

async function requireRoom(tx: Db, row: RoleRow): Promise<void> {
  const others = (await listRoleRows(tx)).filter(({ name }) => name !== row.name);
  const bytes = Buffer.byteLength(JSON.stringify(permissionsOfRoles([...others, row])));
  if (others.length >= rolesMax || bytes > permissionsMaxBytes) throw new AppError('role_limit_reached');
}

function describeChange(old: RoleRow | undefined, row: RoleRow): { added: string; removed: string } | undefined {
  const before = old === undefined ? [] : permissionsOfRole(old);
  const after = permissionsOfRole(row);
  const added = after.filter((permission) => !before.includes(permission)).join(',');
  const removed = before.filter((permission) => !after.includes(permission)).join(',');
  const isSame = added === '' && removed === '' && old?.description === row.description;
  return isSame ? undefined : { added, removed };
}

function toRole(row: RoleRow): Role {
  return {
    name: row.name,
    description: row.description,
    permissions: permissionsOfRole(row).toSorted(),
    createdAtMs: row.created_at,
  };
}
