import type { Db, UserRow } from '../db/schema.ts';

/** What sending a code must know of the account at an address. */
export type CodeRecipient = Pick<UserRow, 'id' | 'status' | 'locale'>;

/** Finds the account at a canonical address. */
export function findRecipient(db: Db, email: string): Promise<CodeRecipient | undefined> {
  return db.selectFrom('users').select(['id', 'status', 'locale']).where('email', '=', email).executeTakeFirst();
}
