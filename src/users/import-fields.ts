import { Ajv } from 'ajv';
import type { Static } from 'typebox';
import { localeMaxLength, localePattern, nameMaxLength, namePattern } from '../account/profile-form.ts';
import { userIdPattern } from '../crypto/ids.ts';
import { emailMaxLength } from '../email-address.ts';
import { Type } from '../json-schema.ts';

const hashMaxLength = 1_024;
const rolesMax = 50;
const roleNameMaxLength = 64;

// RFC 3339, and PostgreSQL's own spelling of it: a space for the T, an offset of hours alone. Without an offset nobody
// knows which moment is meant.
const timePattern = '^\\d{4}-\\d{2}-\\d{2}[T ]\\d{2}:\\d{2}:\\d{2}(?:\\.\\d{1,9})?(?:Z|[+-]\\d{2}(?::?\\d{2})?)$';

const time = (description: string) => Type.String({ pattern: timePattern, maxLength: 40, description });

/** What a line may say of a user. An empty text and null mean the same as a field that is not there. */
const importSchema = Type.Object(
  {
    email: Type.String({
      minLength: 3,
      maxLength: emailMaxLength,
      description: 'The address. The one required field.',
    }),
    password_hash: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: hashMaxLength,
        pattern: '^[\\x21-\\x7e]+$',
        description: 'The hash as the other system stores it. Without one the user logs in with e-mailed codes.',
      }),
    ),
    email_verified: Type.Optional(Type.Boolean({ description: 'Whether the owner of the address has proved it.' })),
    name: Type.Optional(Type.String({ minLength: 1, maxLength: nameMaxLength, pattern: namePattern })),
    locale: Type.Optional(Type.String({ minLength: 2, maxLength: localeMaxLength, pattern: localePattern })),
    metadata: Type.Optional(Type.Unsafe<Record<string, unknown>>({ type: 'object', additionalProperties: true })),
    status: Type.Optional(Type.Enum(['active', 'disabled', 'invited'])),
    roles: Type.Optional(
      Type.Array(Type.String({ minLength: 1, maxLength: roleNameMaxLength }), {
        maxItems: rolesMax,
        uniqueItems: true,
      }),
    ),
    id: Type.Optional(Type.String({ pattern: `^${userIdPattern}$`, description: 'A UUID, which is kept.' })),
    created_at: Type.Optional(time('When the account was made; without it, now.')),
    updated_at: Type.Optional(time('When it was last changed; without it, now.')),
    last_login_at: Type.Optional(time('When the user last logged in.')),
  },
  { additionalProperties: false },
);

/** The fields of a line that has been checked. */
export type ImportFields = Static<typeof importSchema>;

/** The names of all fields. */
export const importFieldNames: readonly string[] = Object.keys(importSchema.properties);

const validate = new Ajv({ allErrors: true, strict: true }).compile<ImportFields>(importSchema);

/** What was found wrong with the fields of a line; empty where nothing was. */
type FieldFaults = { unknown: string[]; invalid: string[] };

/** Checks the fields of a line against the schema. */
export function checkFields(fields: Record<string, unknown>): FieldFaults {
  if (validate(fields)) return { unknown: [], invalid: [] };
  const faults: FieldFaults = { unknown: [], invalid: [] };
  for (const { keyword, params, instancePath, message = 'is not valid' } of validate.errors ?? []) {
    if (keyword === 'additionalProperties') faults.unknown.push(String(params.additionalProperty));
    else if (keyword === 'required') faults.invalid.push(`${String(params.missingProperty)} is required`);
    else faults.invalid.push(`${instancePath.slice(1)} ${message}`);
  }
  return faults;
}
