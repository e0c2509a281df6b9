import { sql } from 'kysely';
import type { Migration } from 'kysely/migration';
import type { DialectName } from '../migrate.ts';

/** How often in a row a wrong password was tried, for each lane of attempts. */
export function createPasswordFailuresMigration(dialect: DialectName): Migration {
  const time = dialect === 'sqlite' ? 'integer' : 'bigint';

  return {
    async up(db) {
      const table = db.schema
        .createTable('password_failures')
        // A keyed digest: addresses without an account are counted too, and none of them is to be read here.
        .addColumn('lane', 'text', (column) => column.primaryKey())
        // Null where there is no account. No foreign key: counting an attempt must wait for nobody's transaction.
        .addColumn('user_id', 'text')
        .addColumn('failures', time, (column) => column.notNull())
        // Since when no password is accepted in this lane; whoever sets it tells the owner.
        .addColumn('suspended_at', time)
        .addColumn('expires_at', time, (column) => column.notNull());
      await (dialect === 'sqlite' ? table.modifyEnd(sql`strict`) : table).execute();
      await db.schema.createIndex('password_failures_user_id').on('password_failures').column('user_id').execute();
      await db.schema
        .createIndex('password_failures_expires_at')
        .on('password_failures')
        .column('expires_at')
        .execute();
    },
  };
}
