import ipaddr from 'ipaddr.js';
import { type Config, isLoopback } from '../config.ts';
import { type Finding, ok, problem, warning } from './finding.ts';

// The shortest prefixes that whole networks of one operator have; anything shorter is a large part of the Internet.
const shortestPrefixes = { ipv4: 8, ipv6: 19 } as const;
const longAccessTokenSeconds = 3_600;

/** The version of Node.js that runs, and the oldest that will do. */
export type Runtime = { version: string; oldest: string };

/** Judges the version of Node.js, before anything that could fail for it. */
export function checkRuntime({ version, oldest }: Runtime): Finding {
  if (isAtLeast(version, oldest)) return ok('node', `Node.js is version ${version}.`);
  return problem('node', {
    what: `Node.js is version ${version}.`,
    why: `Latchkey needs ${oldest} or newer: it uses the SQLite and the type stripping of that version.`,
    remedy: 'Install a newer Node.js, or start it by npm, which brings its own.',
  });
}

function isAtLeast(version: string, least: string): boolean {
  const [own = [], needed = []] = [version, least].map((text) => text.replace(/^v/, '').split('.').map(Number));
  for (const [index, part] of needed.entries()) {
    if ((own[index] ?? 0) !== part) return (own[index] ?? 0) > part;
  }
  return true;
}

/** Judges the settings that are valid and may still not be meant. */
export function checkSettings(config: Config): Finding[] {
  return [...checkMode(config), ...checkPublicUrl(config), ...checkProxies(config), ...checkOthers(config)];
}

function checkMode({ isProduction, environment }: Config): Finding[] {
  const { NODE_ENV, PUBLIC_URL, RATE_LIMITS } = environment;
  const isPublic = !isLoopback(new URL(PUBLIC_URL).hostname);
  if (isProduction) return [ok('mode', 'NODE_ENV is production.')];
  const findings: Finding[] = [];
  if (isPublic) {
    findings.push(
      problem('mode', {
        what: `NODE_ENV is ${NODE_ENV}, and PUBLIC_URL (${PUBLIC_URL}) is not this machine.`,
        why: 'Outside production nothing requires a secret of your own, encrypted mail or limits, and codes are written to the log.',
        remedy: 'Set NODE_ENV=production, and what it then asks for.',
      }),
    );
  } else findings.push(ok('mode', `NODE_ENV is ${NODE_ENV}, for this machine alone.`));
  if (RATE_LIMITS === 'off') {
    findings.push(
      warning('limits', {
        what: 'RATE_LIMITS is off.',
        why: 'Nothing slows down who tries passwords or sends mail to strangers.',
        remedy: 'Leave it out, unless this is a benchmark.',
      }),
    );
  }
  return findings;
}

function checkPublicUrl({ isProduction, environment: { PUBLIC_URL } }: Config): Finding[] {
  const { protocol, hostname } = new URL(PUBLIC_URL);
  if (protocol === 'https:' || isLoopback(hostname)) return [ok('public_url', `PUBLIC_URL is ${PUBLIC_URL}.`)];
  const trouble = {
    what: `PUBLIC_URL is ${PUBLIC_URL}, without TLS.`,
    why: 'Passwords and tokens cross the network readable.',
    remedy: 'Put a proxy with a certificate in front, and set PUBLIC_URL to its https:// address.',
  };
  return [isProduction ? problem('public_url', trouble) : warning('public_url', trouble)];
}

function checkProxies({ isProduction, trustedProxies, environment }: Config): Finding[] {
  const { PUBLIC_URL } = environment;
  if (trustedProxies.length === 0) {
    if (!isProduction || !PUBLIC_URL.startsWith('https:'))
      return [ok('proxy', 'TRUST_PROXY is empty: no proxy is believed.')];
    return [
      warning('proxy', {
        what: 'TRUST_PROXY is empty, and PUBLIC_URL is https, which only a proxy in front can serve.',
        why: 'Every client then has the address of the proxy: all share one limit, and the events name the proxy.',
        remedy: 'Set TRUST_PROXY to the addresses of the proxy, as this service sees them.',
      }),
    ];
  }
  const wide = trustedProxies.filter(isWide);
  if (wide.length > 0) {
    return [
      warning('proxy', {
        what: `TRUST_PROXY believes ${wide.join(', ')}, which is a large part of the Internet.`,
        why: 'Whoever has an address in it can claim to be any client, and so evade limits and forge the addresses of events.',
        remedy: 'Name the proxies alone, each address or its own network.',
      }),
    ];
  }
  const believed =
    trustedProxies.length === 1 ? 'one address or network' : `${trustedProxies.length} addresses or networks`;
  return [ok('proxy', `TRUST_PROXY believes ${believed}: ${trustedProxies.join(', ')}.`)];
}

function isWide(proxy: string): boolean {
  if (!proxy.includes('/')) return false;
  const [address, prefix] = ipaddr.parseCIDR(proxy);
  const isPrivate = ['private', 'uniqueLocal', 'loopback', 'linkLocal', 'carrierGradeNat'].includes(address.range());
  return !isPrivate && prefix < shortestPrefixes[address.kind()];
}

function checkOthers({ isProduction, corsOrigins, environment }: Config): Finding[] {
  const { LOG_LEVEL, ACCESS_TOKEN_TTL_SECONDS, DATABASE_URL, REDIS_URL } = environment;
  const findings: Finding[] = [];
  const openOrigins = corsOrigins.filter((origin) => origin.startsWith('http:'));
  if (isProduction && openOrigins.length > 0) {
    findings.push(
      warning('cors', {
        what: `CORS_ORIGINS lets in pages without TLS: ${openOrigins.join(', ')}.`,
        why: 'Whoever sits in the network can put a script into such a page, and that script can use the API.',
        remedy: 'Name https:// origins only.',
      }),
    );
  }
  if (isProduction && ['debug', 'trace'].includes(LOG_LEVEL)) {
    findings.push(
      warning('log', {
        what: `LOG_LEVEL is ${LOG_LEVEL}.`,
        why: 'It writes far more than an operator needs, on every request.',
        remedy: 'Set LOG_LEVEL=info, or leave it out.',
      }),
    );
  }
  if (ACCESS_TOKEN_TTL_SECONDS > longAccessTokenSeconds) {
    findings.push(
      warning('access_tokens', {
        what: `ACCESS_TOKEN_TTL_SECONDS is ${ACCESS_TOKEN_TTL_SECONDS}.`,
        why: 'Services that verify tokens by the JWKS learn of a logout or a disabled user only when the token expires.',
        remedy: `Set ${longAccessTokenSeconds} or less; clients refresh by themselves.`,
      }),
    );
  }
  if (!DATABASE_URL.startsWith('sqlite:') && REDIS_URL === undefined) {
    findings.push(
      warning('instances', {
        what: 'DATABASE_URL is PostgreSQL, and REDIS_URL is not set.',
        why: 'That is right for one instance. A second one would count codes and limits for itself and know no code of the first.',
        remedy: 'Set REDIS_URL before you start a second instance.',
      }),
    );
  }
  return findings;
}
