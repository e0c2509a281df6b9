import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type ConnectionOptions, createSecureContext } from 'node:tls';

// What DATABASE_URL may say of a PostgreSQL is read here and nowhere else. The driver's own reading is not asked:
// its sslmode warns of a change of meaning to come, takes a misspelt parameter for none, and the variables of libpq
// (PGSSLMODE, PGPASSWORD) would count where the URL is silent.

const sslModes = ['disable', 'require', 'verify-ca', 'verify-full', 'no-verify'] as const;
const fileNames = ['sslrootcert', 'sslcert', 'sslkey'] as const;
const parameterNames: readonly string[] = ['sslmode', ...fileNames, 'host', 'application_name', 'options', 'pgbouncer'];
const defaultPort = 5432;

type SslMode = (typeof sslModes)[number];
type FileName = (typeof fileNames)[number];

/** What a URL says of the server and of the way to it. */
export type PostgresTarget = {
  /** A name, an address, or the folder of a socket file. */
  host: string;
  port: number;
  user: string | undefined;
  password: string | undefined;
  database: string | undefined;
  applicationName: string;
  /** Settings for the session, as `-c name=value`. */
  options: string | undefined;
  sslMode: SslMode | undefined;
  files: Partial<Record<FileName, string>>;
  /** Connections lead to a pooler that takes no settings with the connection. */
  isPooled: boolean;
};

/** The server asks for a password, and there is none to give. */
export class MissingPasswordError extends Error {
  override readonly name = 'MissingPasswordError';
}

/** Reads a URL in which findPostgresUrlFault finds none. */
export function readPostgresUrl(text: string): PostgresTarget {
  const { hostname, port, username, password, pathname, searchParams } = new URL(text);
  const get = (name: string) => searchParams.get(name) ?? undefined;
  const files = fileNames.flatMap((name) => (searchParams.has(name) ? [[name, get(name)]] : []));
  return {
    host: get('host') ?? (readHost(hostname) || 'localhost'),
    port: port === '' ? defaultPort : Number(port),
    user: decodeURIComponent(username) || undefined,
    password: decodeURIComponent(password) || undefined,
    database: decodeURIComponent(pathname.slice(1)) || undefined,
    applicationName: get('application_name') ?? 'latchkey',
    options: get('options'),
    sslMode: get('sslmode') as SslMode | undefined,
    files: Object.fromEntries(files) as PostgresTarget['files'],
    isPooled: get('pgbouncer') === 'true',
  };
}

/** Says what is wrong with a URL, in words that follow the variable's name and repeat nothing of it. */
export function findPostgresUrlFault(text: string): string | undefined {
  const { hostname, searchParams } = new URL(text);
  const names = [...searchParams.keys()];
  if (names.some((name) => !parameterNames.includes(name))) {
    return `may have the parameters ${parameterNames.join(', ')} and no other; a ? in a password must be percent-encoded`;
  }
  if (new Set(names).size < names.length) return 'names a parameter twice';
  if (hostname.includes(',')) return 'names several hosts; name one that leads to the primary';
  const host = searchParams.get('host');
  // A URL with a user needs a host before the path; localhost is the one that is written there.
  if (host !== null && (!['', 'localhost'].includes(hostname) || !isSocketFolder(host))) {
    return 'may have a host parameter only for the folder of a socket file, and then no other host but localhost';
  }
  if (!['true', 'false', null].includes(searchParams.get('pgbouncer'))) return 'may have pgbouncer=true or false';
  return findTlsFault(readPostgresUrl(text));
}

function findTlsFault({ host, sslMode, files }: PostgresTarget): string | undefined {
  if (sslMode !== undefined && !sslModes.includes(sslMode)) {
    return `may have an sslmode of ${sslModes.join(', ')}; prefer and allow would go on in the clear where TLS fails`;
  }
  const isEncrypted = sslMode !== undefined && sslMode !== 'disable';
  if (isEncrypted && isSocketFolder(host)) return 'has an sslmode, but a socket file is never encrypted';
  if (!isEncrypted && Object.keys(files).length > 0) {
    return 'names certificates, but no sslmode that uses them; write sslmode=verify-full';
  }
  if (sslMode === 'no-verify' && files.sslrootcert !== undefined) {
    return 'names an sslrootcert, which sslmode=no-verify does not look at; write sslmode=verify-full';
  }
  if (sslMode === 'verify-ca' && files.sslrootcert === undefined) {
    return 'has sslmode=verify-ca without sslrootcert: any holder of a certificate would be taken for the server';
  }
  if ((files.sslcert === undefined) !== (files.sslkey === undefined)) return 'needs sslcert and sslkey together';
  return findFileFault(files);
}

function findFileFault(files: PostgresTarget['files']): string | undefined {
  const contents: Partial<Record<FileName, string>> = {};
  for (const [name, path] of Object.entries(files) as [FileName, string][]) {
    try {
      contents[name] = readFileSync(path, 'utf8');
    } catch (error) {
      return `names an ${name} that cannot be read (${(error as NodeJS.ErrnoException).code})`;
    }
  }
  const { sslrootcert, sslcert, sslkey } = contents;
  if (sslrootcert !== undefined && !isCertificate(sslrootcert)) return 'names an sslrootcert without a PEM certificate';
  if (sslcert !== undefined && !isPair(sslcert, sslkey)) {
    return 'names an sslcert and an sslkey that are not a PEM certificate and its private key without a passphrase';
  }
  return undefined;
}

/**
 * The driver's options for TLS. `require` is as strict as `verify-full`: encryption to whoever answers protects
 * from nobody who can answer.
 */
export function readTlsOptions({ sslMode, files }: PostgresTarget): ConnectionOptions | false {
  if (sslMode === undefined || sslMode === 'disable') return false;
  const readCa = files.sslrootcert === undefined ? undefined : readAfresh(files.sslrootcert, isCertificate);
  const readCert = files.sslcert === undefined ? undefined : readAfresh(files.sslcert, isCertificate);
  const readKey = files.sslkey === undefined ? undefined : readAfresh(files.sslkey, (text) => text !== '');
  return {
    rejectUnauthorized: sslMode !== 'no-verify',
    ...(sslMode === 'verify-ca' ? { checkServerIdentity: () => undefined } : {}),
    // The driver copies these for every connection, so each gets what the files hold by then.
    get ca() {
      return readCa?.();
    },
    get cert() {
      return readCert?.();
    },
    get key() {
      return readKey?.();
    },
  };
}

/** Follows a certificate that is renewed while the service runs; of a file that is half written, the last state counts. */
function readAfresh(path: string, isUsable: (text: string) => boolean): () => string {
  let last = readFileSync(path, 'utf8');
  return () => {
    try {
      const text = readFileSync(path, 'utf8');
      if (isUsable(text)) last = text;
    } catch {
      // The file is being replaced.
    }
    return last;
  };
}

/** Says in a sentence what others could see or change on the way to the server; nothing of the URL is repeated. */
export function describeTransportRisk(text: string): string | undefined {
  if (!text.startsWith('postgres')) return undefined;
  const { host, sslMode } = readPostgresUrl(text);
  if (isSocketFolder(host) || isThisMachine(host)) return undefined;
  if (sslMode === undefined) {
    return (
      'DATABASE_URL names another machine without an sslmode, so the password and all data travel in the clear. ' +
      'Add sslmode=verify-full, or sslmode=disable where the network itself is trusted.'
    );
  }
  if (sslMode !== 'no-verify') return undefined;
  return (
    'DATABASE_URL has sslmode=no-verify: the connection is encrypted to whoever answers. ' +
    'Write sslmode=verify-full with the sslrootcert of the server.'
  );
}

function isThisMachine(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(?:\.\d+){3}$/.test(host);
}

function isSocketFolder(host: string): boolean {
  return host.startsWith('/');
}

function readHost(hostname: string): string {
  return decodeURIComponent(hostname).replace(/^\[(.+)\]$/, '$1');
}

function isCertificate(text: string): boolean {
  try {
    return new X509Certificate(text).serialNumber !== '';
  } catch {
    return false;
  }
}

function isPair(cert: string, key: string | undefined): boolean {
  try {
    createSecureContext({ cert, key });
    return true;
  } catch {
    return false;
  }
}
