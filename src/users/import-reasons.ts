import type { AdoptionFault } from '../crypto/stored-hash.ts';

/** Why a line is refused. A name is never changed: a script may look for it in the report. */
export type ImportReason = keyof typeof importReasons;

/** Every reason for which a line is refused, as the report says it. */
export const importReasons = {
  line_too_long: 'is longer than 64 KiB',
  not_utf8: 'is not UTF-8',
  malformed_json: 'is not one JSON object, or names a member twice',
  malformed_csv: 'has a quote where none may be',
  wrong_cell_count: 'has another number of cells than the header',
  unknown_field: 'has a field that is not known; --ignore-unknown leaves such fields out',
  plain_password: 'has a plain password; only hashes are imported',
  invalid_field: 'has a field of the wrong type or beyond its limits',
  invalid_email: 'has an address that is not accepted',
  address_not_proved: 'does not say whether the address was proved: add email_verified, or give --addresses-are-proved',
  duplicate_in_file: 'has an address or id that a line before it has',
  id_in_use: 'has an id that another account has',
  unknown_role: 'names a role that does not exist',
  role_not_allowed: 'names a role with permissions; --allow-role <name> allows it',
  hash_unknown_format: 'has a password hash of a format that is not known',
  hash_too_costly: 'has a password hash whose check costs more than is paid here',
  hash_too_short: 'has a password hash that is too short to prove anything',
  hash_other_secret: 'has a password hash made under another SECRET_KEY',
  hash_needs_firebase_parameters: 'has a hash from Firebase; give --firebase-parameters <file>',
} as const satisfies Record<string, string> & Record<`hash_${AdoptionFault}`, string>;

/** A line that is not imported. */
export type Refusal = {
  line: number;
  reason: ImportReason;
  /** The address, where the line was understood that far. */
  email?: string | undefined;
  /** What is particular to this line. */
  detail?: string | undefined;
};

/** Thrown where the file as a whole cannot be imported. What was imported before stays. */
export class ImportStoppedError extends Error {
  override readonly name = 'ImportStoppedError';
}
