import type { Db, UserRow } from '../db/schema.ts';

/** What sending a code must know of the account at an address. */
export type CodeRecipient = Pick<UserRow, 'id' | 'status' | 'locale'>;

/** Finds the account at a canonical address. */
export function findRecipient(db: Db, email: string): Promise<CodeRecipient | undefined> {
  return db.selectFrom('users').select(['id', 'status', 'locale']).where('email', '=', email).executeTakeFirst();
}

/** Holds the account at an address still for the rest of the transaction. Returns its user's id, if there is one. */
export async function lockRecipient(db: Db, email: string): Promise<string | undefined> {
  const row = await db
    .updateTable('users')
    .set((eb) => ({ email: eb.ref('email') }))
    .where('email', '=', email)
    .returning('id')
    .executeTakeFirst();
  return row?.id;
}
