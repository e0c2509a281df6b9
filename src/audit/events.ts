/**
 * The whole audit vocabulary. A name is never changed or reused: operators search for it years later.
 */
const auditEventTypes = [
  'user.registered',
  'user.updated',
  'user.deleted',
  'users.imported',
  'users.exported',
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
] as const;

export type AuditEventType = (typeof auditEventTypes)[number];
