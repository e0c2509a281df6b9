/**
 * Every permission that this service itself asks for, with what it allows. A name is never changed or reused: it stands
 * in roles and in access tokens.
 */
export const builtInPermissions = {
  'users:read': 'Search and read users.',
  'users:write': 'Invite, change, disable, enable and delete users.',
  'sessions:read': 'See where a user is logged in.',
  'sessions:write': 'End the sessions of a user.',
  'roles:read': 'Read the roles and their permissions.',
  'roles:write': 'Make, change and delete roles.',
  'roles:assign': 'Give roles to users and take them away.',
  'audit:read': 'Read the audit events.',
} as const satisfies Record<string, string>;

/** A permission that a route of this service can ask for. */
export type BuiltInPermission = keyof typeof builtInPermissions;

/** The role that holds every built-in permission, also those that a later version adds. */
export const administratorRole = 'admin';

/** The role that every account begins with. */
export const firstRole = 'user';

// What an application calls its own permissions is its affair; here it need only be short and plain enough for a token.
const applicationPattern = 'app:[A-Za-z0-9][A-Za-z0-9._:/-]{0,58}';

/** The form of every permission that a role may hold. */
export const permissionPattern = `^(?:${Object.keys(builtInPermissions).join('|')}|${applicationPattern})$`;

/** A role as it is stored: its permissions are a JSON array. */
type StoredRole = { name: string; permissions: string };

/**
 * The permissions of a role. Those of the administrator are computed and not stored, so that an upgrade gives every
 * administrator what it adds, and a downgrade takes it away.
 */
export function permissionsOfRole({ name, permissions }: StoredRole): string[] {
  return name === administratorRole ? Object.keys(builtInPermissions) : (JSON.parse(permissions) as string[]);
}

/** The permissions that roles give together, each once and in alphabetical order. */
export function permissionsOfRoles(roles: readonly StoredRole[]): string[] {
  return [...new Set(roles.flatMap(permissionsOfRole))].sort();
}
