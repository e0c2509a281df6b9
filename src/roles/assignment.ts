import { recordEvent } from '../audit/flow.ts';
import type { Db, UserRow } from '../db/schema.ts';
import type { Deps } from '../deps.ts';
import { fieldRefused } from '../errors.ts';
import { administratorRole } from '../permissions.ts';
import type { RequestContext } from '../request-context.ts';
import { blockCachedSessions } from '../sessions/cache.ts';
import { type Actor, actorIdOf, mannerOf, requireGrantable, requireWithinReach } from './actor.ts';
import { requireAnotherAdministrator } from './administrators.ts';
import { deleteUserRoles, findRoles, insertUserRoles, listRolesOfUser, lockRoles } from './store.ts';

/** So many fit into an access token beside the permissions, whatever they are called. */
export const rolesPerUserMax = 20;

/** Reads the roles that an actor wants to give, each known and grantable. Holds all roles still until the commit. */
async function takeGrantableRoles(tx: Db, actor: Actor, names: readonly string[]) {
  if (names.length > rolesPerUserMax) throw fieldRefused('/roles', `must NOT have more than ${rolesPerUserMax} items`);
  await lockRoles(tx);
  const found = names.length === 0 ? [] : await findRoles(tx, names);
  const known = new Set(found.map((role) => role.name));
  for (const [index, name] of names.entries()) {
    if (!known.has(name)) throw fieldRefused(`/roles/${index}`, 'is not a role');
  }
  requireGrantable(actor, found);
  return found;
}

/** Gives a new user their roles. Pass the transaction that makes the user. */
export async function giveFirstRoles(tx: Db, actor: Actor, userId: string, names: readonly string[]): Promise<void> {
  const roles = await takeGrantableRoles(tx, actor, names);
  if (roles.length > 0) await insertUserRoles(tx, userId, [...new Set(names)]);
}

/** Refuses to change a user who holds more than the actor. Pass a transaction that holds the user's row. */
export async function requireReachOf(tx: Db, actor: Actor, userId: string): Promise<void> {
  requireWithinReach(actor, await listRolesOfUser(tx, userId));
}

/**
 * Makes these the roles of a user. Pass the transaction that holds the user's row. Returns false when they are so
 * already. Effective on the user's next request, on every instance.
 */
export async function replaceRoles(
  deps: Deps,
  tx: Db,
  change: { actor: Actor; user: UserRow; names: readonly string[] },
  context: RequestContext | undefined,
): Promise<boolean> {
  const { actor, user, names } = change;
  await takeGrantableRoles(tx, actor, names);
  const rolesOfUser = await listRolesOfUser(tx, user.id);
  requireWithinReach(actor, rolesOfUser);
  const held = rolesOfUser.map(({ name }) => name);
  const added = [...new Set(names)].filter((name) => !held.includes(name)).sort();
  const removed = held.filter((name) => !names.includes(name));
  if (added.length === 0 && removed.length === 0) return false;
  if (removed.includes(administratorRole)) await requireAnotherAdministrator(tx, user);
  if (removed.length > 0) await deleteUserRoles(tx, user.id, removed);
  if (added.length > 0) await insertUserRoles(tx, user.id, added);
  await blockCachedSessions(deps, user.id);
  const details = { added: added.join(','), removed: removed.join(','), by: mannerOf(actor) };
  const event = { type: 'user.roles_changed', userId: user.id, actorId: actorIdOf(actor), details } as const;
  await recordEvent(tx, event, context, deps.clock.now());
  return true;
}
