import type { Static } from 'typebox';
import { toRfc3339 } from '../clock.ts';
import { emailMaxLength } from '../email-address.ts';
import { schemaRef } from '../http/schemas.ts';
import { Type } from '../json-schema.ts';
import { plainSessionSchema, toSessionFields } from '../sessions/session-json.ts';
import { emailField, exampleVerificationToken, verificationTokenField } from '../verification/schemas.ts';
import type { AccountExport } from './export.ts';
import type { Account } from './flow.ts';
import { localeMaxLength, localePattern, nameMaxLength, namePattern } from './profile-form.ts';

const time = (description: string) => Type.String({ format: 'date-time', description });
const nullable = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) => Type.Union([schema, Type.Null()]);

// One type list rather than a union, so that a wrong value is one error and not three.
const nullableText = (options: { minLength: number; maxLength: number; pattern: string; description: string }) =>
  Type.Unsafe<string | null>({ type: ['string', 'null'], ...options });

const nameSchema = nullableText({
  minLength: 1,
  maxLength: nameMaxLength,
  pattern: namePattern,
  description: 'What to call the user: 1 to 200 characters, at least one visible, no control or direction characters.',
});

const localeSchema = nullableText({
  minLength: 2,
  maxLength: localeMaxLength,
  pattern: localePattern,
  description: 'A language tag (BCP 47) for mail, such as `en` or `pt-BR`.',
});

// Not Type.Record, whose pattern for names does not match one with a line break: such members would be stored
// and then left out of every answer.
const jsonObject = (options: { description?: string }) =>
  Type.Unsafe<Record<string, unknown>>({ type: 'object', additionalProperties: true, ...options });

const metadataSchema = jsonObject({
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
    id: Type.String({
      format: 'uuid',
      description: 'A UUID (RFC 9562): version 7, or what an import brought. Never reused.',
    }),
    email: Type.String({ maxLength: emailMaxLength, description: 'The proved address in its canonical spelling.' }),
    name: nullable(Type.String()),
    locale: nullable(Type.String()),
    metadata: jsonObject({}),
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

export const requestEmailChangeBodySchema = Type.Object(
  { email: emailField },
  { additionalProperties: false, examples: [{ email: 'ada@new.example.com' }] },
);

export const changeEmailBodySchema = Type.Object(
  { verification_token: verificationTokenField },
  {
    additionalProperties: false,
    examples: [{ verification_token: exampleVerificationToken }],
  },
);

const exampleTime = '2026-01-01T12:00:00.000Z';

export const exportSchema = Type.Object(
  {
    exported_at: time('When this was collected.'),
    user: schemaRef(userSchema),
    has_password: Type.Boolean({ description: 'Whether a hash of a password is held.' }),
    pending_email_change: nullable(Type.String({ description: 'The address that is being changed to.' })),
    sessions: Type.Array(plainSessionSchema, { description: 'Live sessions, the newest first.' }),
    known_devices: Type.Array(
      Type.Object(
        { first_seen_at: time('When it was first used.'), last_seen_at: time('When it was last used.') },
        { additionalProperties: false },
      ),
      { description: 'Devices known for the notice about new ones; of each only a keyed digest is held.' },
    ),
    events: Type.Array(
      Type.Object(
        {
          type: Type.String(),
          occurred_at: time('When it happened.'),
          client_address: nullable(Type.String()),
          user_agent: nullable(Type.String()),
          details: jsonObject({}),
        },
        { additionalProperties: false },
      ),
      { description: 'The newest 1,000 audit events about the user, the newest first.' },
    ),
  },
  {
    additionalProperties: false,
    description: 'Everything that is held about the user.',
    examples: [
      {
        exported_at: exampleTime,
        user: exampleUser,
        has_password: true,
        pending_email_change: null,
        sessions: [],
        known_devices: [{ first_seen_at: exampleTime, last_seen_at: exampleTime }],
        events: [
          {
            type: 'user.registered',
            occurred_at: exampleTime,
            client_address: '203.0.113.7',
            user_agent: null,
            details: {},
          },
        ],
      },
    ],
  },
);

/** Maps an export to its JSON form. */
export function toExportResponse(data: AccountExport): Static<typeof exportSchema> {
  return {
    exported_at: toRfc3339(data.exportedAtMs),
    user: toUserResponse(data.account),
    has_password: data.account.hasPassword,
    pending_email_change: data.pendingEmailChange,
    sessions: data.sessions.map(toSessionFields),
    known_devices: data.knownDevices.map((device) => ({
      first_seen_at: toRfc3339(device.firstSeenAtMs),
      last_seen_at: toRfc3339(device.lastSeenAtMs),
    })),
    events: data.events.map((event) => ({
      type: event.type,
      occurred_at: toRfc3339(event.occurredAtMs),
      client_address: event.clientAddress,
      user_agent: event.userAgent,
      details: event.details,
    })),
  };
}

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
