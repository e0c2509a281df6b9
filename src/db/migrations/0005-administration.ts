import { sql } from 'kysely';
import type { Migration } from 'kysely/migration';
import type { DialectName } from '../migrate.ts';

/** Indexes for the lists of users and events, so that a page of them costs the same among a million rows. */
export function createAdministrationMigration(dialect: DialectName): Migration {
  return {
    async up(db) {
      // Addresses are compared byte by byte, as SQLite does anyway: only so does an index find those with a prefix.
      if (dialect === 'postgres') await sql`alter table users alter column email type text collate "C"`.execute(db);

      await db.schema.createIndex('users_created_at').on('users').columns(['created_at', 'id']).execute();
      await db.schema
        .createIndex('users_status_created_at')
        .on('users')
        .columns(['status', 'created_at', 'id'])
        .execute();
      await db.schema.createIndex('users_status_email').on('users').columns(['status', 'email']).execute();

      // Who has a role, in the order of the accounts' ids. It begins like the index before, which it replaces.
      await db.schema.createIndex('user_roles_role_user').on('user_roles').columns(['role_name', 'user_id']).execute();
      await db.schema.dropIndex('user_roles_role_name').ifExists().execute();

      // The same with the id, by which events of one moment are told apart.
      await db.schema.createIndex('audit_events_time').on('audit_events').columns(['occurred_at', 'id']).execute();
      await db.schema
        .createIndex('audit_events_user_time')
        .on('audit_events')
        .columns(['user_id', 'occurred_at', 'id'])
        .execute();
      await db.schema
        .createIndex('audit_events_type_time')
        .on('audit_events')
        .columns(['type', 'occurred_at', 'id'])
        .execute();
      await db.schema.dropIndex('audit_events_user_id').ifExists().execute();
      await db.schema.dropIndex('audit_events_occurred_at').ifExists().execute();

      // What somebody did to others, for the erasure of who did it. Few events are so, and the index holds only those.
      await sql`create index audit_events_actor on audit_events (actor_id, occurred_at)
        where actor_id is distinct from user_id`.execute(db);
    },
  };
}
