import { type Static, Type } from 'typebox';
import { toRfc3339 } from '../clock.ts';
import { emailMaxLength } from '../email-address.ts';
import type { Account } from './flow.ts';

const time = (description: string) => Type.String({ format: 'date-time', description });
const nullable = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) => Type.Union([schema, Type.Null()]);

const nameSchema = nullable(
  Type.String({
    minLength: 1,
    maxLength: 200,
    // No control characters: a name ends up in mail, logs and terminals.
    pattern: '^[^\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029]+$',
    description: 'What to call the user: 1 to 200 characters, none of them a control character.',
  }),
);

const localeSchema = nullable(
  Type.String({
    minLength: 2,
    maxLength: 35,
    pattern: '^[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*$',
    description: 'A language tag (BCP 47) for mail, such as `en` or `pt-BR`.',
  }),
);

const metadataSchema = Type.Record(Type.String(), Type.Unknown(), {
  description:
    'Any JSON object of the application, at most 8 KiB as JSON. The user can write it: never decide about access by it.',
});

/** What a user may say of themselves, at registration and later. */
export const profileFields = {
  name: Type.Optional(nameSchema),
  locale: Type.Optional(localeSchema),
  metadata: Type.Optional(metadataSchema),
};

/** A user for examples. */
export const exampleUser = {
  id: '01978f6e-5c1a-7d2e-9b7a-2f8d1c3e4a5b',
  email: 'ada@example.com',
  name: 'Ada Lovelace',
  locale: 'en',
  metadata: { plan: 'free' },
  status: 'active',
  roles: ['user'],
  created_at: '2026-01-01T12:00:00.000Z',
  updated_at: '2026-01-01T12:00:00.000Z',
  last_login_at: '2026-01-01T12:00:00.000Z',
};

/** A user as the API shows one. */
export const userSchema = Type.Object(
  {
    id: Type.String({ format: 'uuid', description: 'A UUID version 7 (RFC 9562). Never reused.' }),
    email: Type.String({ maxLength: emailMaxLength, description: 'The proved address in its canonical spelling.' }),
    name: nullable(Type.String()),
    locale: nullable(Type.String()),
    metadata: Type.Record(Type.String(), Type.Unknown()),
    status: Type.Union([Type.Literal('active'), Type.Literal('disabled'), Type.Literal('invited')], {
      description: '`invited` has not proved the address yet; `disabled` cannot log in.',
    }),
    roles: Type.Array(Type.String(), { description: 'The names of the roles, in alphabetical order.' }),
    created_at: time('When the account was made.'),
    updated_at: time('When the account was last changed.'),
    last_login_at: nullable(time('When the user last logged in.')),
  },
  {
    $id: 'User',
    additionalProperties: false,
    examples: [exampleUser],
  },
);

export const updateBodySchema = Type.Object(profileFields, {
  additionalProperties: false,
  examples: [{ name: 'Ada Lovelace', locale: 'en', metadata: { plan: 'free' } }],
});

/** Maps an account to its JSON form. */
export function toUserResponse(account: Account): Static<typeof userSchema> {
  return {
    id: account.id,
    email: account.email,
    name: account.name,
    locale: account.locale,
    metadata: account.metadata,
    status: account.status,
    roles: [...account.roles],
    created_at: toRfc3339(account.createdAtMs),
    updated_at: toRfc3339(account.updatedAtMs),
    last_login_at: account.lastLoginAtMs === null ? null : toRfc3339(account.lastLoginAtMs),
  };
}
