import { isIPv6 } from 'node:net';

/** Where a server listens; an IPv6 address is without its brackets. */
export type RedisAddress = { host: string; port: number };

/** What a server asks for; both absent where it asks for nothing. */
export type RedisCredentials = { username?: string; password?: string };

/** What a REDIS_URL names: one server, a master that sentinels know, or a cluster. */
export type RedisTarget = { isEncrypted: boolean; credentials: RedisCredentials } & (
  | { mode: 'single'; address: RedisAddress; database: number }
  | {
      mode: 'sentinel';
      sentinels: readonly RedisAddress[];
      sentinelCredentials: RedisCredentials;
      masterName: string;
      database: number;
    }
  | { mode: 'cluster'; seeds: readonly RedisAddress[] }
);

/** Its message goes on after "REDIS_URL" and never repeats the URL, which may hold a password. */
export class RedisUrlError extends Error {
  override readonly name = 'RedisUrlError';
}

type UrlParts = { mode: string; userInfo: string; hosts: string; path: string; query: string | undefined };

const maxHosts = 64;
const serverPort = 6379;
const sentinelPort = 26_379;
// Up to the last @, as every URL parser reads it.
const urlPattern = /^(rediss?)(?:\+(sentinel|cluster))?:\/\/(?:([^/?]*)@)?([^/?@]*)(?:\/([^?]*))?(?:\?(.*))?$/;
const hostPattern = /^(?:\[([^\]]*)\]|([A-Za-z0-9_][A-Za-z0-9._-]{0,252}))(?::(\d{1,5}))?$/;
const masterNamePattern = /^[A-Za-z0-9._-]{1,255}$/;
const encoded = 'in a user name or password the characters : / ? # @ % must be percent-encoded';

/** Reads a REDIS_URL, or throws RedisUrlError. */
export function readRedisUrl(text: string): RedisTarget {
  if (text.includes('#')) throw new RedisUrlError('has a # that is not percent-encoded');
  if (/[\s\p{Cc}]/u.test(text)) throw new RedisUrlError('has a space that is not percent-encoded');
  const [, scheme, mode = 'single', userInfo = '', hosts = '', path = '', query] = urlPattern.exec(text) ?? [];
  if (scheme === undefined) throw new RedisUrlError(`is not a valid URL: ${encoded}`);
  const parts = { mode, userInfo, hosts, path, query };
  const shared = { isEncrypted: scheme === 'rediss', credentials: readUserInfo(userInfo) };
  if (mode === 'sentinel') return { ...shared, ...readSentinel(parts) };
  const servers = readHosts(hosts, serverPort);
  if (query !== undefined) {
    throw new RedisUrlError(
      'has a ? with parameters, which only redis+sentinel:// takes (or it must be percent-encoded)',
    );
  }
  return mode === 'cluster'
    ? { ...shared, ...readCluster(servers, path) }
    : { ...shared, ...readSingle(servers, path) };
}

/** Says what is wrong with a REDIS_URL, in words that go on after its name. */
export function findRedisUrlFault(text: string): string | undefined {
  try {
    readRedisUrl(text);
    return undefined;
  } catch (error) {
    if (error instanceof RedisUrlError) return error.message;
    throw error;
  }
}

function readSingle(servers: readonly RedisAddress[], path: string) {
  const [address, ...more] = servers;
  if (address === undefined || more.length > 0) {
    throw new RedisUrlError('names several hosts, which only redis+sentinel:// and redis+cluster:// take');
  }
  return { mode: 'single' as const, address, database: readDatabase(path) };
}

function readCluster(seeds: readonly RedisAddress[], path: string) {
  if (path !== '' && path !== '0') throw new RedisUrlError('names a database, and a cluster has none to choose');
  return { mode: 'cluster' as const, seeds };
}

function readSentinel({ hosts, path, query }: UrlParts) {
  const sentinels = readHosts(hosts, sentinelPort);
  const [masterName = '', database = '', ...more] = path.split('/');
  if (!masterNamePattern.test(masterName) || more.length > 0) {
    throw new RedisUrlError('must have the name of the master as its path: redis+sentinel://host,host/name');
  }
  return {
    mode: 'sentinel' as const,
    sentinels,
    sentinelCredentials: readSentinelCredentials(query),
    masterName,
    database: readDatabase(database),
  };
}

function readSentinelCredentials(query: string | undefined): RedisCredentials {
  const given = new Map<string, string>();
  for (const parameter of query === undefined || query === '' ? [] : query.split('&')) {
    const [, name = '', value = ''] = /^(sentinel_username|sentinel_password)=(.+)$/.exec(parameter) ?? [];
    if (name === '') {
      throw new RedisUrlError(
        'has a parameter that is unknown or empty; known are sentinel_username and sentinel_password',
      );
    }
    if (given.has(name)) throw new RedisUrlError(`has ${name} twice`);
    // Not as a form would be read: there a + is a space, and passwords have a +.
    given.set(name, decode(value));
  }
  return credentials(given.get('sentinel_username'), given.get('sentinel_password'));
}

function readUserInfo(userInfo: string): RedisCredentials {
  const colon = userInfo.indexOf(':');
  if (colon < 0) return credentials(decode(userInfo), undefined);
  return credentials(decode(userInfo.slice(0, colon)), decode(userInfo.slice(colon + 1)));
}

function credentials(username = '', password = ''): RedisCredentials {
  // Without a password no user is named to the server, and it would take us for its default one.
  if (username !== '' && password === '') throw new RedisUrlError('names a user without a password');
  return { ...(username !== '' && { username }), ...(password !== '' && { password }) };
}

function readHosts(list: string, defaultPort: number): RedisAddress[] {
  const addresses = list.split(',').map((item) => readHost(item, defaultPort));
  if (addresses.length > maxHosts) throw new RedisUrlError(`names more than ${maxHosts} hosts`);
  const distinct = new Set(addresses.map(addressText));
  if (distinct.size < addresses.length) throw new RedisUrlError('names a host twice');
  return addresses;
}

function readHost(item: string, defaultPort: number): RedisAddress {
  const [, inBrackets, name, portText] = hostPattern.exec(item) ?? [];
  const host = inBrackets ?? name?.toLowerCase();
  const port = portText === undefined ? defaultPort : Number(portText);
  if (item === '') throw new RedisUrlError('names no host');
  const isHost = inBrackets === undefined ? host !== undefined : isIPv6(inBrackets) && !inBrackets.includes('%');
  if (host === undefined || !isHost || port < 1 || port > 65_535) {
    throw new RedisUrlError(
      `names a host or a port that cannot be: a port is a number from 1 to 65535, an IPv6 address stands in [], and ${encoded}`,
    );
  }
  return { host, port };
}

function readDatabase(text: string): number {
  if (!/^\d{0,5}$/.test(text))
    throw new RedisUrlError('may have nothing but the number of a database there in its path');
  return Number(text);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new RedisUrlError('has a % that is not percent-encoded');
  }
}

/** Writes an address as it is read. */
export function addressText({ host, port }: RedisAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
