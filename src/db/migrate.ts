import { sql } from 'kysely';
import type { Migration } from 'kysely/migration';
import { createInitialMigration } from './migrations/0001-initial.ts';
import { createAccountLifeMigration } from './migrations/0002-account-life.ts';
import { createAuditChainMigration } from './migrations/0003-audit-chain.ts';
import { createPasswordFailuresMigration } from './migrations/0004-password-failures.ts';
import { createAdministrationMigration } from './migrations/0005-administration.ts';
import type { Db } from './schema.ts';

/** Which of the two databases it is. */
export type DialectName = 'sqlite' | 'postgres';

/** The database has seen migrations that this version does not know. */
export class UnknownMigrationError extends Error {
  override readonly name = 'UnknownMigrationError';
}

/** The tables are missing or behind, and the user of DATABASE_URL may not make or change tables. */
export class MigrationForbiddenError extends Error {
  override readonly name = 'MigrationForbiddenError';
}

/** The tables are missing or behind, and whoever opened the database does not change tables in passing. */
export class PendingMigrationsError extends Error {
  override readonly name = 'PendingMigrationsError';
  readonly pending: readonly string[];

  constructor(pending: readonly string[]) {
    super(`the database has not seen ${pending.join(', ')}`);
    this.pending = pending;
  }
}

/** Which migrations a database has seen and which it has not, in their order. */
export type MigrationState = { applied: string[]; pending: string[] };

// Kysely's migrator is not used: its lock belongs to the session and not to the transaction, so behind a pooler it can
// be left to nobody, and inside a transaction it hides why a table could not be made. Its table and the number of its
// lock are kept.
/** The advisory lock under which tables are changed. */
export const migrationLockId = 3_853_314_791_062_309_107n;
// Another instance may be rewriting a large table. Longer, and somebody should look.
const lockWait = '10min';
// A statement that waits for a table keeps everybody else from it meanwhile.
const tableWait = '4s';
const idleLimit = '60s';
const insufficientPrivilege = '42501';

function listMigrations(dialect: DialectName): Record<string, Migration> {
  return {
    '0001-initial': createInitialMigration(dialect),
    '0002-account-life': createAccountLifeMigration(dialect),
    '0003-audit-chain': createAuditChainMigration(dialect),
    '0004-password-failures': createPasswordFailuresMigration(dialect),
    '0005-administration': createAdministrationMigration(dialect),
  };
}

/**
 * Looks which migrations the database has seen; throws when it has seen others. Needs no lock and no right but to read, so a
 * start with nothing to change waits for nobody and can do with a user who may change nothing.
 */
export async function readMigrationState(db: Db, dialect: DialectName): Promise<MigrationState> {
  const findTable =
    dialect === 'sqlite'
      ? sql`select name from sqlite_schema where type = 'table' and name = 'kysely_migration'`
      : sql`select tablename from pg_tables where schemaname = current_schema() and tablename = 'kysely_migration'`;
  const isThere = (await findTable.execute(db)).rows.length > 0;
  return migrationStateOf(isThere ? await listApplied(db) : [], dialect);
}

/** Compares the migrations that a database has seen with those that there are; throws when it has seen others. */
export function migrationStateOf(applied: string[], dialect: DialectName): MigrationState {
  const migrations = listMigrations(dialect);
  const unknown = applied.filter((name) => migrations[name] === undefined);
  if (unknown.length > 0) throw new UnknownMigrationError(unknown.join(', '));
  return { applied, pending: Object.keys(migrations).filter((name) => !applied.includes(name)) };
}

/**
 * Applies every migration that the database has not seen, in the order of their names, all or none. Of several
 * instances one does it while the others wait, of which they are told.
 */
export async function migrateToLatest(db: Db, dialect: DialectName, onWait: () => void): Promise<void> {
  try {
    await db.transaction().execute(async (tx) => {
      // On SQLite the transaction is the lock.
      if (dialect === 'postgres') await waitForTurn(tx, onWait);
      await applyMigrations(tx, dialect);
    });
  } catch (error) {
    if ((error as { code?: unknown }).code !== insufficientPrivilege) throw error;
    throw new MigrationForbiddenError('the user may not make tables', { cause: error });
  }
}

/** Does the same in a transaction of the caller, who has the lock. */
export async function applyMigrations(tx: Db, dialect: DialectName): Promise<void> {
  const migrations = listMigrations(dialect);
  await tx.schema
    .createTable('kysely_migration')
    .ifNotExists()
    .addColumn('name', 'varchar(255)', (column) => column.notNull().primaryKey())
    .addColumn('timestamp', 'varchar(255)', (column) => column.notNull())
    .execute();
  const { applied } = migrationStateOf(await listApplied(tx), dialect);
  for (const [name, { up }] of Object.entries(migrations)) {
    if (applied.includes(name)) continue;
    await up(tx);
    await sql`insert into kysely_migration (name, timestamp) values (${name}, ${new Date().toISOString()})`.execute(tx);
  }
}

async function listApplied(db: Db): Promise<string[]> {
  const { rows } = await sql<{ name: string }>`select name from kysely_migration order by name`.execute(db);
  return rows.map(({ name }) => name);
}

/** Sets the limits of the transaction and waits until nobody else migrates. The lock ends with the transaction. */
async function waitForTurn(tx: Db, onWait: () => void): Promise<void> {
  await sql`set local statement_timeout = 0`.execute(tx);
  await sql`set local idle_in_transaction_session_timeout = ${sql.lit(idleLimit)}`.execute(tx);
  await sql`set local lock_timeout = ${sql.lit(lockWait)}`.execute(tx);
  const attempt = sql<{
    is_locked: boolean;
  }>`select pg_try_advisory_xact_lock(${sql.lit(migrationLockId)}) as is_locked`;
  if ((await attempt.execute(tx)).rows[0]?.is_locked !== true) {
    onWait();
    await sql`select pg_advisory_xact_lock(${sql.lit(migrationLockId)})`.execute(tx);
  }
  await sql`set local lock_timeout = ${sql.lit(tableWait)}`.execute(tx);
}
