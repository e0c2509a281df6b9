/**
 * The whole audit vocabulary. A name is never changed or reused: operators search for it years later.
 */
export const auditEventTypes = [
  'user.registered',
  'user.updated',
  'user.deleted',
  'login.succeeded',
  'login.failed',
  'session.ended',
  'session.reuse_detected',
  'password.changed',
  'code.sent',
  'code.verified',
  'code.refused',
] as const;

export type AuditEventType = (typeof auditEventTypes)[number];
