import type { Deps } from '../deps.ts';
import { AppError } from '../errors.ts';
import { administratorRole, type BuiltInPermission, permissionsOfRoles } from '../permissions.ts';
import { requireRecentAuthentication } from '../sessions/guard.ts';
import type { Principal } from '../sessions/principal.ts';

/**
 * Who administers: a user over HTTP, or the operator at the command line. Whoever has a shell on the machine has the
 * database and the secret, so nothing is asked of the operator but what keeps the data whole.
 */
export type Actor = { kind: 'user'; principal: Principal } | { kind: 'operator' };

/** What a role gives, for the question who may give it. */
export type Grant = { name: string; permissions: string };

/** Who acted, as events have it: the operator is no user. */
export function actorIdOf(actor: Actor): string | null {
  return actor.kind === 'user' ? actor.principal.userId : null;
}

/** In what manner the actor acts, as details of events have it. */
export function mannerOf(actor: Actor): 'administrator' | 'operator' {
  return actor.kind === 'user' ? 'administrator' : 'operator';
}

/** Refuses an actor who has not authenticated recently (RFC 9470). */
export function requireRecentActor(deps: Deps, actor: Actor): void {
  if (actor.kind === 'user') requireRecentAuthentication(deps, actor.principal);
}

/** Refuses a user who does not hold a permission. */
export function requirePermissionOf({ permissions }: Principal, permission: BuiltInPermission): void {
  if (permissions.includes(permission)) return;
  throw new AppError('insufficient_permission', { detail: `This needs ${permission}.`, scope: permission });
}

/** The same for an actor. */
export function requireActorPermission(actor: Actor, permission: BuiltInPermission): void {
  if (actor.kind === 'user') requirePermissionOf(actor.principal, permission);
}

/**
 * Refuses to give, take or change roles that hold more than the actor does. An administrator may grant everything, also
 * the application's own permissions, which are not counted among the administrator's: their list has no end.
 */
export function requireGrantable(actor: Actor, roles: readonly Grant[]): void {
  if (!holdsAll(actor, roles)) {
    throw new AppError('insufficient_permission', { detail: 'This role holds permissions that you do not.' });
  }
}

/** Refuses to change a user who holds more than the actor does. */
export function requireWithinReach(actor: Actor, rolesOfUser: readonly Grant[]): void {
  if (!holdsAll(actor, rolesOfUser)) {
    throw new AppError('insufficient_permission', { detail: 'This user holds permissions that you do not.' });
  }
}

function holdsAll(actor: Actor, roles: readonly Grant[]): boolean {
  if (actor.kind === 'operator') return true;
  const { principal } = actor;
  if (principal.roles.includes(administratorRole)) return true;
  // Who is no administrator cannot make one, whatever a role of their own holds: the next version may add to `admin`.
  if (roles.some(({ name }) => name === administratorRole)) return false;
  return permissionsOfRoles(roles).every((permission) => principal.permissions.includes(permission));
}
