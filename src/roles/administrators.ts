import type { Db, UserRow } from '../db/schema.ts';
import { AppError } from '../errors.ts';
import { administratorRole } from '../permissions.ts';
import { hasOtherAdministrator, listRolesOfUser, lockRoles } from './store.ts';

/**
 * Refuses what would leave no active administrator. Pass the transaction of the act, which holds the user's row: nobody
 * can make the user an administrator meanwhile. All such acts then wait for each other, so that of two administrators
 * who remove each other the second meets what the first has done.
 */
export async function requireAnotherAdministrator(tx: Db, user: Pick<UserRow, 'id' | 'status'>): Promise<void> {
  if (user.status !== 'active') return;
  const roles = await listRolesOfUser(tx, user.id);
  if (!roles.some(({ name }) => name === administratorRole)) return;
  await lockRoles(tx);
  if (!(await hasOtherAdministrator(tx, user.id))) throw new AppError('last_administrator');
}
