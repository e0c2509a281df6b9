import type { Generated, Insertable, Kysely, Selectable } from 'kysely';

/**
 * The tables as TypeScript sees them, the same on SQLite and PostgreSQL. Times are milliseconds since the
 * epoch; JSON is text. What each column is for is said in the migration that makes it.
 */
export type Schema = {
  users: UsersTable;
  roles: RolesTable;
  user_roles: UserRolesTable;
  sessions: SessionsTable;
  signing_keys: SigningKeysTable;
  secret_fingerprints: SecretFingerprintsTable;
  outbox: OutboxTable;
  audit_events: AuditEventsTable;
  pending_email_changes: PendingEmailChangesTable;
  known_devices: KnownDevicesTable;
  leases: LeasesTable;
  pending_erasures: PendingErasuresTable;
};

/** A connection or a transaction: stores take either. */
export type Db = Kysely<Schema>;

type UsersTable = {
  id: string;
  email: string;
  name: string | null;
  locale: string | null;
  metadata: string;
  status: 'active' | 'disabled' | 'invited';
  password_hash: string | null;
  created_at: number;
  updated_at: number;
  last_login_at: number | null;
  proofs_valid_from: Generated<number>;
};

type RolesTable = { name: string; description: string; permissions: string; created_at: number };

type UserRolesTable = { user_id: string; role_name: string };

type SessionsTable = {
  id: string;
  user_id: string;
  generation: number;
  salt: string;
  created_at: number;
  rotated_at: number;
  authenticated_at: number;
  idle_expires_at: number;
  expires_at: number;
  client_address: string;
  user_agent: string | null;
  device_label: string | null;
};

type SigningKeysTable = {
  kid: string;
  state: 'next' | 'active' | 'retired';
  public_jwk: string;
  sealed_private_jwk: string;
  created_at: number;
  activated_at: number | null;
  retired_at: number | null;
};

type SecretFingerprintsTable = { fingerprint: string; first_seen_at: number };

type OutboxTable = {
  id: string;
  user_id: string | null;
  sealed_message: string;
  created_at: number;
  expires_at: number;
  attempts: number;
  next_attempt_at: number;
};

type AuditEventsTable = {
  id: string;
  type: string;
  occurred_at: number;
  actor_id: string | null;
  user_id: string | null;
  client_address: string | null;
  user_agent: string | null;
  request_id: string | null;
  details: string;
};

type PendingEmailChangesTable = { user_id: string; email: string; created_at: number; expires_at: number };

type KnownDevicesTable = { user_id: string; fingerprint: string; first_seen_at: number; last_seen_at: number };

type PendingErasuresTable = { user_id: string; created_at: number };

type LeasesTable = { name: string; holder: string; expires_at: number };

export type UserRow = Selectable<UsersTable>;
export type NewUserRow = Insertable<UsersTable>;
export type SessionRow = Selectable<SessionsTable>;
export type RoleRow = Selectable<RolesTable>;
export type SigningKeyRow = Selectable<SigningKeysTable>;
export type OutboxRow = Selectable<OutboxTable>;
export type NewOutboxRow = Insertable<OutboxTable>;
export type NewAuditEventRow = Insertable<AuditEventsTable>;
export type AuditEventRow = Selectable<AuditEventsTable>;
export type PendingEmailChangeRow = Selectable<PendingEmailChangesTable>;
