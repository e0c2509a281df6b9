/** What one type of event says: when it is written, and what its details hold, by field. */
type EventMeaning = { readonly meaning: string; readonly details: Readonly<Record<string, string>> };

const meaningOfManner = '`owner`, `administrator` (another user, the actor) or `operator` (the command line)';
const meaningOfOperator = 'user of the operating system who gave the command, or empty';
const meaningOfAttempt =
  '`compared`; `throttled` where it came too soon after others, or `suspended` where the password waits for a reset';

/**
 * The whole audit vocabulary. A name is never changed or reused: operators search for it years later. Details are facts
 * without secrets and addresses. docs/audit.md is made from it.
 */
export const auditVocabulary = {
  'user.registered': {
    meaning: 'An account was made with a proved address, and its owner logged in.',
    details: { session_id: 'the session that was opened' },
  },
  'user.updated': {
    meaning: 'The profile of a user was changed.',
    details: { fields: 'the names of what was changed, separated by commas', by: meaningOfManner },
  },
  'user.invited': {
    meaning: 'An account was made for somebody who has not proved the address yet, and an invitation was mailed.',
    details: { roles: 'its roles, separated by commas', by: meaningOfManner },
  },
  'user.created': {
    meaning: 'The operator made an account whose address counts as proved.',
    details: { roles: 'its roles, separated by commas', by: '`operator`' },
  },
  'user.disabled': {
    meaning: 'A user was disabled. All of their sessions ended.',
    details: { sessions_ended: 'how many sessions ended', by: meaningOfManner },
  },
  'user.enabled': { meaning: 'A disabled user was enabled again.', details: { by: meaningOfManner } },
  'user.roles_changed': {
    meaning: 'A user was given other roles.',
    details: {
      added: 'roles that were given, separated by commas',
      removed: 'roles that were taken, separated by commas',
      by: meaningOfManner,
    },
  },
  'user.sessions_ended': {
    meaning: 'Somebody else ended all sessions of a user.',
    details: { ended: 'how many sessions ended', by: meaningOfManner },
  },
  'user.deleted': {
    meaning:
      'An account was deleted: by its owner, who is then the actor, or by somebody else. The events about the user lose address, user agent and details; one by the owner does too.',
    details: {},
  },
  'users.imported': {
    meaning: 'The operator imported a batch of users. There is one event for each batch, and none for each user.',
    details: {
      run: 'names the run of the command, whose batches have it in common',
      imported: 'how many accounts were made',
      updated: 'how many accounts were changed',
    },
  },
  'users.exported': {
    meaning: 'The operator exported the users.',
    details: { with_hashes: 'whether with their password hashes' },
  },
  'role.created': {
    meaning: 'A role was made.',
    details: { role: 'its name', added: 'its permissions, separated by commas', removed: 'empty', by: meaningOfManner },
  },
  'role.updated': {
    meaning: 'The description or the permissions of a role were changed.',
    details: {
      role: 'its name',
      added: 'permissions that it has now, separated by commas',
      removed: 'permissions that it had, separated by commas',
      by: meaningOfManner,
    },
  },
  'role.deleted': {
    meaning: 'A role was deleted, and whoever had it lost it.',
    details: { role: 'its name', by: meaningOfManner },
  },
  'user.erased': {
    meaning:
      'What a deletion left to be blanked was blanked; or the event of a deletion fell to the retention while blanked events of the user stay, and this one goes on vouching for them.',
    details: { by: '`deletion` or `retention`' },
  },
  'registration.refused': {
    meaning: 'Somebody asked to register an address that has an account. Its owner was told by mail.',
    details: {},
  },
  'login.succeeded': {
    meaning: 'A user logged in.',
    details: { method: '`password` or `code`', session_id: 'the session that was opened' },
  },
  'login.failed': {
    meaning:
      'A login was refused: a wrong password, an unknown address (then without a user), a disabled account, or a right code of an account that is disabled or gone.',
    details: { method: '`password` or `code`', attempt: meaningOfAttempt },
  },
  'reauthentication.refused': {
    meaning: 'Whoever holds a session gave a wrong password where a recent authentication was asked for.',
    details: { attempt: meaningOfAttempt },
  },
  'session.reauthenticated': {
    meaning: 'A user proved again who they are, so that the session may do what needs a recent authentication.',
    details: { method: '`password` or `code`' },
  },
  'session.ended': {
    meaning: 'A session was ended.',
    details: {
      session_id: 'the session',
      by: '`logout` (with one of its tokens) or `owner` (from the list of sessions)',
    },
  },
  'session.others_ended': {
    meaning: 'A user ended all of their sessions but one.',
    details: { ended: 'how many sessions ended' },
  },
  'session.oldest_ended': {
    meaning: 'A login ended the oldest sessions of the user, which were over `SESSIONS_PER_USER_MAX`.',
    details: { ended: 'how many sessions ended' },
  },
  'session.reuse_detected': {
    meaning: 'A refresh token that was used long ago came again. The session ended and its owner was told.',
    details: { session_id: 'the session' },
  },
  'device.noticed': {
    meaning: 'A login came from a device or network that was not known. The owner was told by mail.',
    details: { device: 'what the user agent says of itself, or empty' },
  },
  'password.changed': {
    meaning: 'A user changed the password with the current one. All other sessions ended.',
    details: { sessions_ended: 'how many sessions ended' },
  },
  'password_change.refused': {
    meaning: 'Whoever holds a session gave a wrong current password for a change of it.',
    details: { attempt: meaningOfAttempt },
  },
  'password.reset': {
    meaning: 'A password was set with the proof of the address. All sessions ended.',
    details: { sessions_ended: 'how many sessions ended' },
  },
  'password.suspended': {
    meaning:
      'After a hundred wrong passwords in a row none is taken any more from where they came, until a reset. The owner was told by mail; without a user where the address has no account.',
    details: { lane: '`public` (everybody who is not known to the account), `device` (a known one) or `session`' },
  },
  'email_change.requested': {
    meaning:
      'A user asked for a change of address. A code went to the new one or, where it has an account, a notice to its owner.',
    details: {},
  },
  'email_change.cancelled': {
    meaning:
      'A change of address under way was cancelled by a new password, by disabling the user or by another address.',
    details: { by: '`password_change`, `password_reset` or `administration`' },
  },
  'email.changed': {
    meaning:
      'The address of an account was changed: by the owner with the proof of the new one, or by somebody else who vouches for it, which ends all sessions. The old address was told.',
    details: { sessions_ended: 'how many sessions ended', by: meaningOfManner },
  },
  'data.exported': { meaning: 'A user took a copy of everything that is held about them.', details: {} },
  'code.sent': {
    meaning: 'A code was asked for; without a user where the address has no account.',
    details: {
      purpose: '`registration`, `login` or `password_reset`',
      is_mailed: 'whether there was somebody to mail it to',
    },
  },
  'code.refused': {
    meaning:
      'A wrong, expired or used up code was given, or one for an address that was sent none; without a user where the address has no account.',
    details: { purpose: '`registration`, `login`, `password_reset` or `email_change`' },
  },
  'keys.rotated': {
    meaning: 'The next signing key of access tokens took the place of the active one: by age, or by the operator.',
    details: {
      activated: 'id of the key that signs now',
      retired: 'id of the one before',
      next: 'id of the new one',
      operator: meaningOfOperator,
    },
  },
  'keys.revoked': {
    meaning: 'The operator revoked a signing key: its tokens are refused everywhere, and it is removed.',
    details: {
      revoked: 'id of the key',
      state: 'what it was: `active`, `next` or `retired`',
      activated: 'id of the key that signs instead, where that changed, or empty',
      next: 'id of the new key that waits, where one was made, or empty',
      operator: meaningOfOperator,
    },
  },
  'secret.added': {
    meaning:
      'The service was started with a value of `SECRET_KEY` that this database had not seen, as in its rotation.',
    details: { fingerprint: 'names the value without revealing it' },
  },
  'audit.expired': {
    meaning: 'The oldest sealed events were removed because `AUDIT_RETENTION_DAYS` had passed.',
    details: {
      events: 'how many events went',
      seals: 'how many seals went with them',
      through_seal: 'number of the last seal that went',
    },
  },
} as const satisfies Record<string, EventMeaning>;

export type AuditEventType = keyof typeof auditVocabulary;

export const auditEventTypes = Object.keys(auditVocabulary) as AuditEventType[];

/** The details that an event of a type must have. */
export type DetailsOf<T extends AuditEventType> = Readonly<
  Record<keyof (typeof auditVocabulary)[T]['details'] & string, string | number | boolean>
>;

/**
 * The types that say that a user is gone and forgotten: nothing else makes it right that events about the user are
 * blank.
 */
export const erasureTypes = ['user.deleted', 'user.erased'] as const satisfies readonly AuditEventType[];
