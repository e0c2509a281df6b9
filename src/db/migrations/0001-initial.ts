import { type CreateTableBuilder, type Kysely, sql } from 'kysely';
import type { Migration } from 'kysely/migration';
import type { DialectName } from '../migrate.ts';

/**
 * The first tables. Times are milliseconds since the epoch. Text keys are UUIDs version 7 made by the
 * service. STRICT makes SQLite hold the types that PostgreSQL holds anyway.
 */
export function createInitialMigration(dialect: DialectName): Migration {
  const time = dialect === 'sqlite' ? 'integer' : 'bigint';

  function strict<T extends string, C extends string>(table: CreateTableBuilder<T, C>): CreateTableBuilder<T, C> {
    return dialect === 'sqlite' ? table.modifyEnd(sql`strict`) : table;
  }

  async function createUserTables(db: Kysely<unknown>): Promise<void> {
    await strict(
      db.schema
        .createTable('users')
        .addColumn('id', 'text', (column) => column.primaryKey())
        // In its canonical spelling; the index decides every race for an address.
        .addColumn('email', 'text', (column) => column.notNull().unique())
        .addColumn('name', 'text')
        .addColumn('locale', 'text')
        .addColumn('metadata', 'text', (column) => column.notNull())
        .addColumn('status', 'text', (column) =>
          column.notNull().check(sql`status in ('active', 'disabled', 'invited')`),
        )
        // Tagged with scheme and secret; null for an account that has only codes.
        .addColumn('password_hash', 'text')
        .addColumn('created_at', time, (column) => column.notNull())
        .addColumn('updated_at', time, (column) => column.notNull())
        .addColumn('last_login_at', time),
    ).execute();

    await strict(
      db.schema
        .createTable('roles')
        .addColumn('name', 'text', (column) => column.primaryKey())
        .addColumn('description', 'text', (column) => column.notNull())
        // A JSON array of permission names.
        .addColumn('permissions', 'text', (column) => column.notNull())
        .addColumn('created_at', time, (column) => column.notNull()),
    ).execute();

    await strict(
      db.schema
        .createTable('user_roles')
        .addColumn('user_id', 'text', (column) => column.notNull().references('users.id').onDelete('cascade'))
        .addColumn('role_name', 'text', (column) => column.notNull().references('roles.name').onDelete('cascade'))
        .addPrimaryKeyConstraint('user_roles_pk', ['user_id', 'role_name']),
    ).execute();
    await db.schema.createIndex('user_roles_role_name').on('user_roles').column('role_name').execute();
  }

  async function createSessionTables(db: Kysely<unknown>): Promise<void> {
    await strict(
      db.schema
        .createTable('sessions')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('user_id', 'text', (column) => column.notNull().references('users.id').onDelete('cascade'))
        // Counts rotations; the refresh token of exactly this generation is the live one.
        .addColumn('generation', time, (column) => column.notNull())
        // Goes into every refresh token's MAC, so that the secret alone forges none.
        .addColumn('salt', 'text', (column) => column.notNull())
        .addColumn('created_at', time, (column) => column.notNull())
        .addColumn('rotated_at', time, (column) => column.notNull())
        .addColumn('authenticated_at', time, (column) => column.notNull())
        .addColumn('idle_expires_at', time, (column) => column.notNull())
        .addColumn('expires_at', time, (column) => column.notNull())
        .addColumn('client_address', 'text', (column) => column.notNull())
        .addColumn('user_agent', 'text'),
    ).execute();
    await db.schema.createIndex('sessions_user_id').on('sessions').columns(['user_id', 'created_at']).execute();
    await db.schema.createIndex('sessions_idle_expires_at').on('sessions').column('idle_expires_at').execute();
  }

  async function createKeyTables(db: Kysely<unknown>): Promise<void> {
    await strict(
      db.schema
        .createTable('signing_keys')
        .addColumn('kid', 'text', (column) => column.primaryKey())
        .addColumn('state', 'text', (column) => column.notNull().check(sql`state in ('next', 'active', 'retired')`))
        .addColumn('public_jwk', 'text', (column) => column.notNull())
        .addColumn('sealed_private_jwk', 'text', (column) => column.notNull())
        .addColumn('created_at', time, (column) => column.notNull())
        .addColumn('activated_at', time)
        .addColumn('retired_at', time),
    ).execute();
    // At most one key signs and one waits: instances that start together cannot make two of either.
    await db.schema
      .createIndex('signing_keys_one_of_each')
      .unique()
      .on('signing_keys')
      .column('state')
      .where(sql.ref('state'), 'in', sql`('next', 'active')`)
      .execute();

    // Which values of SECRET_KEY this database has worked with; a boot under a foreign one is stopped.
    await strict(
      db.schema
        .createTable('secret_fingerprints')
        .addColumn('fingerprint', 'text', (column) => column.primaryKey())
        .addColumn('first_seen_at', time, (column) => column.notNull()),
    ).execute();
  }

  async function createMailAndAuditTables(db: Kysely<unknown>): Promise<void> {
    await strict(
      db.schema
        .createTable('outbox')
        .addColumn('id', 'text', (column) => column.primaryKey())
        // Whose mail it is, so that it goes with the account; null when there is no account.
        .addColumn('user_id', 'text', (column) => column.references('users.id').onDelete('cascade'))
        // Recipient and text under AES-256-GCM: nothing of a mail is readable here.
        .addColumn('sealed_message', 'text', (column) => column.notNull())
        .addColumn('created_at', time, (column) => column.notNull())
        .addColumn('expires_at', time, (column) => column.notNull())
        .addColumn('attempts', time, (column) => column.notNull())
        .addColumn('next_attempt_at', time, (column) => column.notNull()),
    ).execute();
    await db.schema.createIndex('outbox_next_attempt_at').on('outbox').column('next_attempt_at').execute();
    await db.schema.createIndex('outbox_user_id').on('outbox').column('user_id').execute();

    // No foreign keys: an event outlives the account that it is about.
    await strict(
      db.schema
        .createTable('audit_events')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('type', 'text', (column) => column.notNull())
        .addColumn('occurred_at', time, (column) => column.notNull())
        .addColumn('actor_id', 'text')
        .addColumn('user_id', 'text')
        .addColumn('client_address', 'text')
        .addColumn('user_agent', 'text')
        .addColumn('request_id', 'text')
        .addColumn('details', 'text', (column) => column.notNull()),
    ).execute();
    await db.schema
      .createIndex('audit_events_user_id')
      .on('audit_events')
      .columns(['user_id', 'occurred_at'])
      .execute();
    await db.schema.createIndex('audit_events_occurred_at').on('audit_events').column('occurred_at').execute();
  }

  async function insertFirstRoles(db: Kysely<unknown>): Promise<void> {
    const adminPermissions = JSON.stringify([
      'users:read',
      'users:write',
      'roles:read',
      'roles:write',
      'roles:assign',
      'sessions:read',
      'sessions:write',
      'audit:read',
    ]);
    await sql`insert into roles (name, description, permissions, created_at) values
      ('admin', 'Administers users, roles and sessions', ${adminPermissions}, 0),
      ('user', 'Has an account', '[]', 0)`.execute(db);
  }

  return {
    async up(db) {
      await createUserTables(db);
      await createSessionTables(db);
      await createKeyTables(db);
      await createMailAndAuditTables(db);
      await insertFirstRoles(db);
    },
  };
}
