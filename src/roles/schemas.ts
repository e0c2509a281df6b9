import type { Static } from 'typebox';
import { toRfc3339 } from '../clock.ts';
import { pageSchema } from '../http/paging.ts';
import { schemaRef } from '../http/schemas.ts';
import { Type } from '../json-schema.ts';
import { builtInPermissions, permissionPattern } from '../permissions.ts';
import { permissionsPerRoleMax, type Role, roleNameMaxLength } from './flow.ts';

const exampleRole = {
  name: 'support',
  description: 'Helps users who cannot log in',
  permissions: ['app:tickets', 'sessions:write', 'users:read'],
  created_at: '2026-01-01T12:00:00.000Z',
};

const permissionList = Object.entries(builtInPermissions)
  .map(([name, meaning]) => `\`${name}\`: ${meaning}`)
  .join(' ');

const permissionsDescription = `Those of this service: ${permissionList} And those of the application, which mean nothing here and go into the access token: \`app:\` and up to 59 letters, digits or \`. _ : / -\`, such as \`app:tickets\`.`;

/** A role as the API shows one. */
export const roleSchema = Type.Object(
  {
    name: Type.String(),
    description: Type.String(),
    permissions: Type.Array(Type.String(), { description: 'In alphabetical order.' }),
    created_at: Type.String({ format: 'date-time' }),
  },
  { $id: 'Role', additionalProperties: false, examples: [exampleRole] },
);

export const roleListSchema = pageSchema(schemaRef(roleSchema), {
  description: 'Every role, in alphabetical order. There are at most 100, on one page.',
  examples: [{ items: [exampleRole], next_cursor: null }],
});

export const putRoleBodySchema = Type.Object(
  {
    description: Type.String({
      maxLength: 200,
      pattern: '^[^\\p{Cc}\\u2028\\u2029\\p{Bidi_Control}]*$',
      description: 'What the role is for, in one line.',
    }),
    permissions: Type.Array(Type.String({ maxLength: 64, pattern: permissionPattern }), {
      maxItems: permissionsPerRoleMax,
      description: permissionsDescription,
    }),
  },
  {
    additionalProperties: false,
    examples: [{ description: exampleRole.description, permissions: exampleRole.permissions }],
  },
);

export const roleParamsSchema = Type.Object(
  {
    name: Type.String({
      maxLength: roleNameMaxLength,
      description: 'Small letters, digits, `.`, `_` and `-`, beginning with a letter or digit.',
    }),
  },
  { additionalProperties: false },
);

/** Maps a role to its JSON form. */
export function toRoleResponse(role: Role): Static<typeof roleSchema> {
  return {
    name: role.name,
    description: role.description,
    permissions: [...role.permissions],
    created_at: toRfc3339(role.createdAtMs),
  };
}
