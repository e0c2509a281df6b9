import { profileColumns } from '../account/flow.ts';
import type { FirebaseParameters } from '../crypto/firebase-hash.ts';
import { newId } from '../crypto/ids.ts';
import type { Keyring } from '../crypto/secrets.ts';
import { adoptHash } from '../crypto/stored-hash.ts';
import type { NewUserRow } from '../db/schema.ts';
import { canonicalEmailAddress } from '../email-address.ts';
import { AppError } from '../errors.ts';
import { checkFields, type ImportFields, importFieldNames } from './import-fields.ts';
import type { RawLine } from './import-lines.ts';
import type { ImportReason, Refusal } from './import-reasons.ts';
import { parseTime } from './import-time.ts';

/** By what a line is judged. */
export type ImportRules = {
  keyring: Keyring;
  nowMs: number;
  /** Each role with whether it has permissions. */
  roles: ReadonlyMap<string, boolean>;
  /** Roles with permissions that the file may give. */
  allowedRoles: ReadonlySet<string>;
  addressesAreProved: boolean;
  ignoreUnknown: boolean;
  /** Imports who has a hash that cannot be checked without a password, rather than not at all. */
  dropUnusableHashes: boolean;
  firebase: FirebaseParameters | undefined;
};

/** A user as a line has it, ready to be written. */
export type ImportedUser = {
  line: number;
  row: NewUserRow & { password_hash: string | null };
  roles: readonly string[];
  hasOwnId: boolean;
  /** True when the line has a hash that is not imported. */
  isPasswordLeftOut: boolean;
  /** The profile fields that the line has: what an update changes. */
  profile: Partial<Pick<NewUserRow, 'name' | 'locale' | 'metadata'>>;
};

const defaultRole = 'user';
// A clock that is a little ahead is no reason to refuse a million lines.
const clockToleranceMs = 86_400_000;

/** Thrown within this file alone, and caught in it. */
class RefusedError extends Error {
  readonly reason: ImportReason;
  readonly detail: string | undefined;

  constructor(reason: ImportReason, detail?: string) {
    super(reason);
    this.reason = reason;
    this.detail = detail;
  }
}

/** Judges a line by itself and makes a user of it, or says why it is refused. */
export function prepareUser({ line, fields: raw }: RawLine, rules: ImportRules): ImportedUser | Refusal {
  const { email: given } = raw;
  const email = typeof given === 'string' ? canonicalEmailAddress(given) : undefined;
  try {
    const fields = requireFields(raw, rules.ignoreUnknown);
    if (email === undefined) throw new RefusedError('invalid_email');
    return makeUser(line, email, fields, rules);
  } catch (error) {
    if (!(error instanceof RefusedError)) throw error;
    const { reason, detail } = error;
    return { line, reason, email, detail };
  }
}

function requireFields(raw: Record<string, unknown>, ignoreUnknown: boolean): ImportFields {
  const known = Object.entries(raw).filter(([name]) => importFieldNames.includes(name));
  const fields: Record<string, unknown> = ignoreUnknown ? Object.fromEntries(known) : { ...raw };
  // Some systems write them in capitals; it is the same UUID (RFC 9562 section 4).
  if (typeof fields.id === 'string') fields.id = fields.id.toLowerCase();
  const { unknown, invalid } = checkFields(fields);
  if (unknown.includes('password')) throw new RefusedError('plain_password');
  if (unknown.length > 0) throw new RefusedError('unknown_field', shorten(unknown.join(', ')));
  if (invalid.length > 0) throw new RefusedError('invalid_field', shorten(invalid.join('; ')));
  // The schema has just said so.
  return fields as ImportFields;
}

function shorten(text: string): string {
  return text.slice(0, 300).toWellFormed();
}

function makeUser(line: number, email: string, fields: ImportFields, rules: ImportRules): ImportedUser {
  const status = decideStatus(fields, rules);
  const roles = checkRoles(fields.roles ?? [defaultRole], rules);
  const profile = readProfile(fields);
  // Whoever registered an address that was never proved chose the password. Its owner will prove it one day, and
  // must not find somebody else's password working.
  const isProved = fields.email_verified ?? status !== 'invited';
  const passwordHash = isProved ? readHash(fields.password_hash, rules) : null;
  const row = {
    id: fields.id ?? newId(),
    email,
    name: profile.name ?? null,
    locale: profile.locale ?? null,
    metadata: profile.metadata ?? '{}',
    status,
    password_hash: passwordHash,
    created_at: readTime(fields, 'created_at', rules.nowMs) ?? rules.nowMs,
    updated_at: readTime(fields, 'updated_at', rules.nowMs) ?? rules.nowMs,
    last_login_at: readTime(fields, 'last_login_at', rules.nowMs) ?? null,
  };
  const hasHash = fields.password_hash !== undefined && !isUnusable(fields.password_hash);
  const hasOwnId = fields.id !== undefined;
  return { line, row, roles, hasOwnId, isPasswordLeftOut: hasHash && passwordHash === null, profile };
}

/**
 * An address counts as proved where the line says so, or the operator vouches for all. One that is not makes an invited
 * account, which its owner brings to life by proving the address; a disabled one stays disabled.
 */
function decideStatus({ status, email_verified }: ImportFields, rules: ImportRules): NewUserRow['status'] {
  if (status === 'invited' && email_verified === true) {
    throw new RefusedError('invalid_field', 'status invited contradicts email_verified');
  }
  if (status === 'invited') return 'invited';
  const isProved = email_verified ?? (rules.addressesAreProved ? true : undefined);
  if (isProved === undefined) throw new RefusedError('address_not_proved');
  return isProved || status === 'disabled' ? (status ?? 'active') : 'invited';
}

function checkRoles(names: readonly string[], { roles, allowedRoles }: ImportRules): readonly string[] {
  const unknown = names.find((name) => !roles.has(name));
  if (unknown !== undefined) throw new RefusedError('unknown_role', shorten(unknown));
  const powerful = names.find((name) => roles.get(name) === true && !allowedRoles.has(name));
  if (powerful !== undefined) throw new RefusedError('role_not_allowed', powerful);
  return names;
}

function readProfile({ name, locale, metadata }: ImportFields): ImportedUser['profile'] {
  try {
    return profileColumns({ name, locale, metadata });
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    const faults = (error.errors ?? []).map(({ path, message }) => `${path.slice(1)} ${message}`);
    throw new RefusedError('invalid_field', faults.join('; '));
  }
}

/** What Django writes for an account without a password: an exclamation mark, and random text after it. */
function isUnusable(text: string): boolean {
  return text.startsWith('!');
}

function readHash(text: string | undefined, { keyring, firebase, dropUnusableHashes }: ImportRules): string | null {
  if (text === undefined || isUnusable(text)) return null;
  const adopted = adoptHash(keyring, text, firebase);
  if ('stored' in adopted) return adopted.stored;
  // Without the parameters every line would lose its password, which nobody can have meant.
  if (dropUnusableHashes && adopted.fault !== 'needs_firebase_parameters') return null;
  throw new RefusedError(`hash_${adopted.fault}`);
}

function readTime(
  fields: ImportFields,
  name: 'created_at' | 'updated_at' | 'last_login_at',
  nowMs: number,
): number | undefined {
  const text = fields[name];
  if (text === undefined) return undefined;
  const timeMs = parseTime(text);
  if (timeMs === undefined || timeMs < 0) throw new RefusedError('invalid_field', `${name} is no time since 1970`);
  if (timeMs > nowMs + clockToleranceMs) throw new RefusedError('invalid_field', `${name} is in the future`);
  return timeMs;
}
