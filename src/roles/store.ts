import type { Db, RoleRow } from '../db/schema.ts';
import { administratorRole } from '../permissions.ts';

/** Lists every role in alphabetical order. There are few. */
export function listRoleRows(db: Db): Promise<RoleRow[]> {
  return db.selectFrom('roles').selectAll().orderBy('name').execute();
}

/** Finds a role. */
export function findRole(db: Db, name: string): Promise<RoleRow | undefined> {
  return db.selectFrom('roles').selectAll().where('name', '=', name).executeTakeFirst();
}

/** Finds roles by their names. */
export function findRoles(db: Db, names: readonly string[]): Promise<RoleRow[]> {
  return db.selectFrom('roles').selectAll().where('name', 'in', names).execute();
}

/** Adds a role. */
export async function insertRole(db: Db, row: RoleRow): Promise<void> {
  await db.insertInto('roles').values(row).execute();
}

/** Changes what a role is. */
export async function updateRole(
  db: Db,
  name: string,
  change: Pick<RoleRow, 'description' | 'permissions'>,
): Promise<void> {
  await db.updateTable('roles').set(change).where('name', '=', name).execute();
}

/** Deletes a role; it is taken from every user with its row. */
export async function deleteRole(db: Db, name: string): Promise<void> {
  await db.deleteFrom('roles').where('name', '=', name).execute();
}

/**
 * Holds the administration of roles still for the rest of the transaction, by the row of a role that is always there.
 * Whoever also holds a user's row takes that one first.
 */
export async function lockRoles(db: Db): Promise<void> {
  await db
    .updateTable('roles')
    .set((eb) => ({ description: eb.ref('description') }))
    .where('name', '=', administratorRole)
    .execute();
}

/** Reads the roles of a user in alphabetical order. */
export function listRolesOfUser(db: Db, userId: string): Promise<RoleRow[]> {
  return db
    .selectFrom('user_roles')
    .innerJoin('roles', 'roles.name', 'user_roles.role_name')
    .selectAll('roles')
    .where('user_roles.user_id', '=', userId)
    .orderBy('roles.name')
    .execute();
}

/** Gives roles to a user who does not have them. */
export async function insertUserRoles(db: Db, userId: string, names: readonly string[]): Promise<void> {
  const rows = names.map((name) => ({ user_id: userId, role_name: name }));
  await db.insertInto('user_roles').values(rows).execute();
}

/** Takes roles away from a user. */
export async function deleteUserRoles(db: Db, userId: string, names: readonly string[]): Promise<void> {
  await db.deleteFrom('user_roles').where('user_id', '=', userId).where('role_name', 'in', names).execute();
}

/** Says whether an active user other than this one is an administrator. */
export async function hasOtherAdministrator(db: Db, userId: string): Promise<boolean> {
  const rows = await db
    .selectFrom('user_roles')
    // From the few who have the role to their rows, in this order: SQLite would begin with all active users.
    .crossJoin('users')
    .select('users.id')
    .whereRef('users.id', '=', 'user_roles.user_id')
    .where('user_roles.role_name', '=', administratorRole)
    .where('user_roles.user_id', '!=', userId)
    .where('users.status', '=', 'active')
    .limit(1)
    .execute();
  return rows.length > 0;
}
