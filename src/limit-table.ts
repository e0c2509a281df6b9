import { formatPolicies, type LimitPolicy, type LimitScope, parsePolicies } from './limit-grammar.ts';

type LimitEntry = {
  /** What the limit is of, for docs/operations.md. */
  of: string;
  /** What can be counted: an account only where the body names an address or an access token its user. */
  scopes: readonly LimitScope[];
  /** The policies that hold unless RATE_LIMITS says otherwise. */
  policies: string;
};

const anywhere: readonly LimitScope[] = ['ip', 'account', 'pair'];
const anonymous: readonly LimitScope[] = ['ip'];

/**
 * Every limit of requests. No default counts the account where nobody has proved who they are: with such a limit
 * anybody could keep the owner out.
 */
export const limitTable = {
  'send-code': { of: '`POST /auth/send-code`', scopes: anywhere, policies: '10/m/ip' },
  'verify-code': { of: '`POST /auth/verify-code`', scopes: anywhere, policies: '30/m/ip,30/h/pair' },
  register: { of: '`POST /auth/register`', scopes: anonymous, policies: '10/m/ip' },
  login: {
    of: '`POST /auth/login`; by `ip` also `POST /auth/login/code`',
    scopes: anywhere,
    policies: '20/m/ip,30/h/pair',
  },
  'reset-password': { of: '`POST /auth/reset-password`', scopes: anonymous, policies: '10/m/ip' },
  refresh: { of: '`POST /auth/refresh`', scopes: anonymous, policies: '120/m/ip' },
  logout: { of: '`POST /auth/logout`', scopes: anonymous, policies: '120/m/ip' },
  reauthenticate: { of: '`POST /auth/reauthenticate`', scopes: anywhere, policies: '20/m/ip,10/15m/account' },
  password: { of: '`PUT /users/me/password`', scopes: anywhere, policies: '10/m/ip,10/h/account' },
  'email-change': { of: '`POST` and `PUT /users/me/email`', scopes: anywhere, policies: '10/m/ip,20/h/account' },
  export: { of: '`GET /users/me/export`', scopes: anywhere, policies: '10/m/ip,10/h/account' },
  // Not by address: whole back ends ask from one, and one more count is one more wait for Redis in the busiest place.
  read: { of: 'every other `GET` with an access token', scopes: anywhere, policies: '600/m/account' },
  write: { of: 'every other change with an access token', scopes: anywhere, policies: '600/m/ip,60/m/account' },
} as const satisfies Record<string, LimitEntry>;

export type LimitName = keyof typeof limitTable;

/** The policies of every limit. */
export type RateLimits = Readonly<Record<LimitName, readonly LimitPolicy[]>>;

export const limitNames = Object.keys(limitTable) as LimitName[];

/** Reads `on`, `off` or overrides such as `login=20/m/ip,5/m/pair;refresh=60/m/ip`. Undefined means that nothing is limited. */
export function readRateLimits(setting: string): { limits: RateLimits | undefined; faults: readonly string[] } {
  if (setting === 'off') return { limits: undefined, faults: [] };
  const limits = Object.fromEntries(limitNames.map((name) => [name, defaultPolicies(name)])) as RateLimits;
  if (setting === 'on') return { limits, faults: [] };
  const faults: string[] = [];
  const overrides = new Map<LimitName, readonly LimitPolicy[]>();
  // A semicolon may also end the list.
  for (const item of setting.replace(/;\s*$/, '').split(';')) {
    const read = readOverride(item);
    if ('fault' in read) faults.push(read.fault);
    else if (overrides.has(read.name)) faults.push(`${read.name} is set twice`);
    else overrides.set(read.name, read.policies);
  }
  return { limits: { ...limits, ...Object.fromEntries(overrides) }, faults };
}

type Override = { name: LimitName; policies: readonly LimitPolicy[] };

function readOverride(item: string): Override | { fault: string } {
  const [name = '', ...rest] = item.split('=').map((part) => part.trim());
  if (rest.length !== 1) {
    const shown = JSON.stringify(item.trim().slice(0, 40));
    return { fault: `${shown} is neither on, off nor an override such as login=20/m/ip,5/m/pair` };
  }
  if (!isLimitName(name)) {
    return { fault: `${JSON.stringify(name.slice(0, 40))} is no limit; the limits are ${limitNames.join(', ')}` };
  }
  const read = parsePolicies(rest[0] ?? '');
  if (read.fault !== undefined) return { fault: `${name} ${read.fault}` };
  const { scopes } = limitTable[name];
  const impossible = read.policies.find(({ scope }) => !scopes.includes(scope));
  if (impossible !== undefined) {
    return {
      fault: `${name} cannot be limited by ${impossible.scope}, because the request does not say whose it is; its scope is ${scopes.join(', ')}`,
    };
  }
  return { name, policies: read.policies };
}

function isLimitName(text: string): text is LimitName {
  return Object.hasOwn(limitTable, text);
}

function defaultPolicies(name: LimitName): readonly LimitPolicy[] {
  const read = parsePolicies(limitTable[name].policies);
  if (read.fault !== undefined) throw new Error(`the default of ${name} ${read.fault}`);
  return read.policies;
}

/** Writes limits in the form that RATE_LIMITS takes. */
export function formatRateLimits(limits: RateLimits): string {
  return limitNames.map((name) => `${name}=${formatPolicies(limits[name])}`).join(';');
}
