import { exampleUser, profileFields, userSchema } from '../account/schemas.ts';
import { emailMaxLength } from '../email-address.ts';
import { pageFields, pageSchema } from '../http/paging.ts';
import { schemaRef } from '../http/schemas.ts';
import { Type } from '../json-schema.ts';
import { rolesPerUserMax } from '../roles/assignment.ts';
import { roleNameMaxLength } from '../roles/flow.ts';
import { emailField } from '../verification/schemas.ts';

const rolesField = Type.Array(Type.String({ maxLength: roleNameMaxLength }), {
  maxItems: rolesPerUserMax,
  description: `Names of roles, at most ${rolesPerUserMax}. You can give only roles whose permissions you hold.`,
});

export const userListSchema = pageSchema(schemaRef(userSchema), {
  description: 'Users.',
  examples: [{ items: [exampleUser], next_cursor: null }],
});

export const userQuerySchema = Type.Object(
  {
    ...pageFields,
    email: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: emailMaxLength,
        description: 'An address or its beginning. A whole one is found in any spelling that means the same mailbox.',
      }),
    ),
    status: Type.Optional(Type.Enum(['active', 'disabled', 'invited'], { description: 'What the account is.' })),
    role: Type.Optional(
      Type.String({ minLength: 1, maxLength: roleNameMaxLength, description: 'The name of a role that they have.' }),
    ),
  },
  { additionalProperties: false },
);

export const userParamsSchema = Type.Object(
  { id: Type.String({ format: 'uuid', description: 'The id of a user.' }) },
  { additionalProperties: false },
);

export const createUserBodySchema = Type.Object(
  { email: emailField, ...profileFields, roles: Type.Optional(rolesField) },
  { additionalProperties: false, examples: [{ email: 'ada@example.com', name: 'Ada Lovelace', roles: ['user'] }] },
);

export const patchUserBodySchema = Type.Object(
  {
    ...profileFields,
    status: Type.Optional(
      Type.Enum(['active', 'disabled'], { description: 'Disables or enables an account that is not just invited.' }),
    ),
    email: Type.Optional(emailField),
  },
  { additionalProperties: false, examples: [{ name: 'Ada Lovelace', status: 'active' }] },
);

export const putRolesBodySchema = Type.Object(
  { roles: rolesField },
  { additionalProperties: false, examples: [{ roles: ['user'] }] },
);
