import { type CreateTableBuilder, sql } from 'kysely';
import type { Migration } from 'kysely/migration';
import type { DialectName } from '../migrate.ts';

/** What the rest of an account's life needs: changes of address under way, known devices, and a lease for chores. */
export function createAccountLifeMigration(dialect: DialectName): Migration {
  const time = dialect === 'sqlite' ? 'integer' : 'bigint';

  function strict<T extends string, C extends string>(table: CreateTableBuilder<T, C>): CreateTableBuilder<T, C> {
    return dialect === 'sqlite' ? table.modifyEnd(sql`strict`) : table;
  }

  return {
    async up(db) {
      // Proofs of the address whose code was sent before this time are dead: after a reset, a password change or a
      // change of address. The row decides, because removing them from the short-lived store can fail or race.
      await db.schema
        .alterTable('users')
        .addColumn('proofs_valid_from', time, (column) => column.notNull().defaultTo(0))
        .execute();

      // A readable name for the user's own list, made once from the user agent.
      await db.schema.alterTable('sessions').addColumn('device_label', 'text').execute();

      // The one address that a user may change to now. A proof without its row is worth nothing, which is how
      // a password reset cancels a change that a thief began.
      await strict(
        db.schema
          .createTable('pending_email_changes')
          .addColumn('user_id', 'text', (column) => column.primaryKey().references('users.id').onDelete('cascade'))
          .addColumn('email', 'text', (column) => column.notNull())
          .addColumn('created_at', time, (column) => column.notNull())
          .addColumn('expires_at', time, (column) => column.notNull()),
      ).execute();
      await db.schema
        .createIndex('pending_email_changes_expires_at')
        .on('pending_email_changes')
        .column('expires_at')
        .execute();

      // Keyed digests of device and network: enough to recognise, not to read.
      await strict(
        db.schema
          .createTable('known_devices')
          .addColumn('user_id', 'text', (column) => column.notNull().references('users.id').onDelete('cascade'))
          .addColumn('fingerprint', 'text', (column) => column.notNull())
          .addColumn('first_seen_at', time, (column) => column.notNull())
          .addColumn('last_seen_at', time, (column) => column.notNull())
          .addPrimaryKeyConstraint('known_devices_pk', ['user_id', 'fingerprint']),
      ).execute();
      await db.schema.createIndex('known_devices_last_seen_at').on('known_devices').column('last_seen_at').execute();

      // Deleted users whose events still hold where they came from: more than one transaction should blank.
      await strict(
        db.schema
          .createTable('pending_erasures')
          .addColumn('user_id', 'text', (column) => column.primaryKey())
          .addColumn('created_at', time, (column) => column.notNull()),
      ).execute();
      await db.schema.createIndex('pending_erasures_created_at').on('pending_erasures').column('created_at').execute();

      await db.schema.createIndex('outbox_expires_at').on('outbox').column('expires_at').execute();

      // Which instance does a chore, and until when it may take that for granted.
      await strict(
        db.schema
          .createTable('leases')
          .addColumn('name', 'text', (column) => column.primaryKey())
          .addColumn('holder', 'text', (column) => column.notNull())
          .addColumn('expires_at', time, (column) => column.notNull()),
      ).execute();
    },
  };
}
