/**
 * The whole audit vocabulary. A name is never changed or reused: operators search for it years later.
 */
export const auditEventTypes = [
  'user.registered',
  'user.invited',
  'user.created',
  'user.updated',
  'user.disabled',
  'user.enabled',
  'user.deleted',
  'user.roles_changed',
  'user.sessions_ended',
  'role.created',
  'role.updated',
  'role.deleted',
  'login.succeeded',
  'login.failed',
  'session.ended',
  'session.others_ended',
  'session.reuse_detected',
  'session.reauthenticated',
  'password.changed',
  'password.reset',
  'email.changed',
  'data.exported',
  'code.sent',
  'keys.rotated',
  'keys.revoked',
] as const;

export type AuditEventType = (typeof auditEventTypes)[number];
