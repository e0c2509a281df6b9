import { recordEvent } from '../audit/flow.ts';
import { isForeignStored, isSameStoredHash } from '../crypto/stored-hash.ts';
import { inTransaction } from '../db/database.ts';
import type { Db } from '../db/schema.ts';
import type { Deps } from '../deps.ts';
import type { Refusal } from './import-reasons.ts';
import {
  type ExistingUser,
  findExistingUsers,
  type ImportedChange,
  insertImportedUsers,
  insertUserRoles,
  updateImportedUser,
} from './import-store.ts';
import type { ImportedUser } from './import-user.ts';

/** What became of some lines. */
export type BatchOutcome = {
  imported: ImportedUser[];
  /** Those whose address has an account already. */
  alreadyThere: number;
  /** Of those, the accounts that were changed. */
  updated: number;
  /** Of those, the accounts whose own, newer password was left as it is. */
  passwordsKept: number;
  refusals: Refusal[];
};

/** What to do with lines, besides adding those that are new. */
export type BatchOptions = { runId: string; update: boolean; isDryRun: boolean };

// Somebody who changes their password in the same moment, again and again.
const maxAttempts = 3;

/**
 * Adds the users of some lines in one transaction, with an event that says how many. An account that is there is left
 * alone, so the same lines can be given again.
 */
export async function writeBatch(
  deps: Deps,
  batch: readonly ImportedUser[],
  options: BatchOptions,
): Promise<BatchOutcome> {
  if (batch.length === 0) return emptyOutcome();
  if (options.isDryRun) return processBatch(deps, deps.db, batch, options);
  return inTransaction(deps.db, async (tx) => {
    const outcome = await processBatch(deps, tx, batch, options);
    const [imported, updated] = [outcome.imported.length, outcome.updated];
    if (imported + updated > 0) {
      const details = { run: options.runId, imported, updated };
      await recordEvent(tx, { type: 'users.imported', userId: null, details }, undefined, deps.clock.now());
    }
    return outcome;
  });
}

function emptyOutcome(): BatchOutcome {
  return { imported: [], alreadyThere: 0, updated: 0, passwordsKept: 0, refusals: [] };
}

async function processBatch(
  deps: Deps,
  db: Db,
  batch: readonly ImportedUser[],
  options: BatchOptions,
): Promise<BatchOutcome> {
  const outcome = emptyOutcome();
  const known = await findKnown(db, batch);
  const fresh: ImportedUser[] = [];
  for (const user of batch) {
    const existing = known.byEmail.get(user.row.email);
    if (existing !== undefined) await meetExisting(deps, db, { user, existing, options, outcome });
    else if (known.ids.has(user.row.id)) outcome.refusals.push(refuseId(user));
    else fresh.push(user);
  }
  if (options.isDryRun) outcome.imported = fresh;
  else await insertFresh(deps, db, { fresh, options, outcome });
  return outcome;
}

async function findKnown(db: Db, users: readonly ImportedUser[]) {
  const emails = users.map(({ row }) => row.email);
  const ids = users.filter(({ hasOwnId }) => hasOwnId).map(({ row }) => row.id);
  const existing = await findExistingUsers(db, emails, ids);
  return {
    byEmail: new Map(existing.map((user) => [user.email, user])),
    ids: new Set(existing.map(({ id }) => id)),
  };
}

function refuseId({ line, row: { email } }: ImportedUser): Refusal {
  return { line, reason: 'id_in_use', email };
}

type Insertion = { fresh: readonly ImportedUser[]; options: BatchOptions; outcome: BatchOutcome };

async function insertFresh(deps: Deps, tx: Db, { fresh, options, outcome }: Insertion): Promise<void> {
  if (fresh.length === 0) return;
  const rows = fresh.map(({ row }) => row);
  const added = await insertImportedUsers(tx, rows);
  outcome.imported = fresh.filter(({ row }) => added.has(row.id));
  const roles = outcome.imported.flatMap(({ row, roles }) =>
    roles.map((role) => ({ user_id: row.id, role_name: role })),
  );
  if (roles.length > 0) await insertUserRoles(tx, roles);
  // Somebody registered with the address since it was looked for.
  const lost = fresh.filter(({ row }) => !added.has(row.id));
  const { byEmail } = await findKnown(tx, lost);
  for (const user of lost) {
    const existing = byEmail.get(user.row.email);
    if (existing === undefined) outcome.refusals.push(refuseId(user));
    else await meetExisting(deps, tx, { user, existing, options, outcome });
  }
}

type Meeting = { user: ImportedUser; existing: ExistingUser; options: BatchOptions; outcome: BatchOutcome };

async function meetExisting(deps: Deps, db: Db, { user, existing, options, outcome }: Meeting): Promise<void> {
  outcome.alreadyThere += 1;
  if (!options.update) return;
  let current = existing;
  for (let attempt = 1; ; attempt += 1) {
    const { change, isPasswordKept } = planChange(deps, current, user);
    const isChanged = Object.keys(change).length > 0;
    const columns = { ...change, updated_at: deps.clock.now() };
    if (!isChanged || options.isDryRun || (await updateImportedUser(db, current, columns))) {
      if (isChanged) outcome.updated += 1;
      if (isPasswordKept) outcome.passwordsKept += 1;
      return;
    }
    if (attempt === maxAttempts) throw new Error('an account was changed by others again and again');
    const [again] = await findExistingUsers(db, [user.row.email], []);
    // Deleted in the meantime, which is to be left so.
    if (again === undefined) return;
    current = again;
  }
}

/**
 * What an update changes: the profile, and the password while nobody has logged in here with the one that was imported.
 * A password that is ours is newer than the file. Status and roles are for administrators.
 */
function planChange(
  { keyring }: Deps,
  existing: ExistingUser,
  { row, profile }: ImportedUser,
): { change: ImportedChange; isPasswordKept: boolean } {
  const change: ImportedChange = {};
  if (profile.name !== undefined && profile.name !== existing.name) change.name = profile.name;
  if (profile.locale !== undefined && profile.locale !== existing.locale) change.locale = profile.locale;
  if (profile.metadata !== undefined && profile.metadata !== existing.metadata) change.metadata = profile.metadata;
  const [held, given] = [existing.password_hash, row.password_hash];
  if (given === null || (held !== null && isSameStoredHash(keyring, held, given))) {
    return { change, isPasswordKept: false };
  }
  if (held === null || !isForeignStored(held)) return { change, isPasswordKept: true };
  change.password_hash = given;
  return { change, isPasswordKept: false };
}
