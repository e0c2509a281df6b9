/** Whom a limit counts: one client address, one account, or one account as seen from one client address. */
export type LimitScope = 'ip' | 'account' | 'pair';

/** So many requests may be made in so many seconds by each of what the scope names. */
export type LimitPolicy = { requests: number; perSeconds: number; scope: LimitScope };

/** Either the policies of a text, or what is wrong with it. */
type PoliciesOrFault =
  | { policies: readonly LimitPolicy[]; fault?: undefined }
  | { policies?: undefined; fault: string };

const maxRequests = 1_000_000;
const maxStretchSeconds = 7 * 86_400;
const maxPolicies = 6;
const scopes: readonly string[] = ['ip', 'account', 'pair'] satisfies LimitScope[];
const secondsByUnit = { s: 1, m: 60, h: 3_600, d: 86_400 } as const;
const policyPattern = /^(0|[1-9]\d*)\/([1-9]\d*)?([smhd])\/([a-z]+)$/;

/** Reads `<requests>/<stretch>/<scope>`, several with commas between: `20/m/ip,10/15m/account`. */
export function parsePolicies(text: string): PoliciesOrFault {
  const policies: LimitPolicy[] = [];
  for (const item of text.split(',')) {
    const read = parsePolicy(item.trim());
    if ('fault' in read) return read;
    if (policies.some(({ scope, perSeconds }) => scope === read.scope && perSeconds === read.perSeconds)) {
      return { fault: `has two policies for ${read.scope} in the same stretch of time` };
    }
    policies.push(read);
  }
  return policies.length > maxPolicies ? { fault: `has more than ${maxPolicies} policies` } : { policies };
}

function parsePolicy(item: string): LimitPolicy | { fault: string } {
  // What was typed may be anything and of any length.
  const quoted = JSON.stringify(item.slice(0, 40));
  const [, requestsText = '', countText = '1', unit = '', scope = ''] = policyPattern.exec(item) ?? [];
  if (requestsText === '' || !isScope(scope)) {
    return {
      fault: `has ${quoted}, which is not <requests>/<stretch>/<scope> such as 20/m/ip; a stretch is s, m, h, d or a number of them such as 15m, and a scope is ip, account or pair`,
    };
  }
  const requests = Number(requestsText);
  const perSeconds = Number(countText) * secondsByUnit[unit as keyof typeof secondsByUnit];
  if (requests < 1 || requests > maxRequests) return { fault: `has ${quoted}: requests are 1 to ${maxRequests}` };
  if (perSeconds > maxStretchSeconds) return { fault: `has ${quoted}: a stretch is at most 7 days` };
  return { requests, perSeconds, scope };
}

function isScope(text: string): text is LimitScope {
  return scopes.includes(text);
}

/** Writes policies in the shortest form that reads as the same. */
export function formatPolicies(policies: readonly LimitPolicy[]): string {
  return policies
    .map(({ requests, perSeconds, scope }) => `${requests}/${formatStretch(perSeconds)}/${scope}`)
    .join(',');
}

/** Writes a stretch of time in its largest whole unit: 60 seconds are `m`, 900 are `15m`. */
export function formatStretch(seconds: number): string {
  const units = Object.entries(secondsByUnit).reverse();
  const [unit, length] = units.find(([, size]) => seconds % size === 0) ?? ['s', 1];
  return seconds === length ? unit : `${seconds / length}${unit}`;
}
