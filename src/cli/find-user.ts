import type { Account } from '../account/flow.ts';
import { idPattern } from '../crypto/ids.ts';
import type { Deps } from '../deps.ts';
import { canonicalEmailAddress } from '../email-address.ts';
import { getUser } from '../users/flow.ts';
import { listUsers } from '../users/search.ts';
import { CommandFailedError } from './command-failed.ts';

const idForm = new RegExp(`^${idPattern}$`);

/** Finds the user of an address, in whatever spelling it is typed. */
export async function findUserByAddress(deps: Deps, email: string): Promise<Account | undefined> {
  // The list is in the order of addresses, so the address itself comes before what it begins.
  const { items } = await listUsers(deps, { email, limit: 1, after: undefined });
  return items.find((account) => account.email === email);
}

/** Reads a user whom the operator names by id or address. */
export async function getNamedUser(deps: Deps, idOrAddress: string): Promise<Account> {
  if (idForm.test(idOrAddress.toLowerCase())) return getUser(deps, idOrAddress.toLowerCase());
  const email = canonicalEmailAddress(idOrAddress);
  if (email === undefined) {
    throw new CommandFailedError(`${JSON.stringify(idOrAddress)} is neither the id of a user nor an e-mail address.`);
  }
  const account = await findUserByAddress(deps, email);
  if (account === undefined) throw new CommandFailedError(`There is no user with the address ${email}.`);
  return account;
}
