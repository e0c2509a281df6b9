import { ConfigError } from './config-error.ts';
import { DatabaseBusyError, meansNoConnection } from './db/failures.ts';
import { MigrationForbiddenError, PendingMigrationsError, UnknownMigrationError } from './db/migrate.ts';
import { MissingPasswordError } from './db/postgres-url.ts';
import { DatabaseAbsentError } from './db/start-wait.ts';
import { WrongSecretError } from './keys/flow.ts';

type StartError = Error & {
  code?: string;
  /** SQLite's result code. */
  errcode?: number;
  syscall?: string;
  path?: string;
  port?: number;
  address?: string;
  hostname?: string;
};

// Appendix A of PostgreSQL's manual.
const postgresFaults: Readonly<Record<string, string>> = {
  '3D000': 'the server has no database of that name. Create it, or correct the name.',
  '3F000': 'the search_path of the user names no schema that it may use. Grant it USAGE on the schema.',
  '28P01': 'the server refuses the user name or the password.',
  '42501': 'the user may not use the tables. Grant it SELECT, INSERT, UPDATE and DELETE on them.',
  '25006': 'the server is read-only. Name the primary, not a standby.',
  '53300': 'the server has no connection left. Raise its max_connections, or the limit of the user.',
  '55P03': 'another session keeps the tables locked. End it.',
  '57P03': 'the server is starting up or shutting down. It must be ready first.',
};

// What OpenSSL and Node.js call the faults of a certificate.
const certificateFault = /^(?:CERT_|CRL_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|INVALID_|PATH_LENGTH_|HOSTNAME_)/;
const tlsFault = /^ERR_(?:SSL|TLS|OSSL)_/;

const sqliteBusy = 5;
// Primary result codes, https://sqlite.org/rescode.html.
const sqliteFaults: Readonly<Record<number, string>> = {
  [sqliteBusy]: 'another process keeps the SQLite file locked. Stop it: one file is for one instance.',
  6: 'another process keeps the SQLite file locked. Stop it: one file is for one instance.',
  8: 'the SQLite file, or the folder it is in, cannot be written by this user.',
  10: 'the disk under the SQLite file fails.',
  11: 'the SQLite file is damaged. Restore a copy.',
  13: 'the disk under the SQLite file is full.',
  14: 'the SQLite file cannot be opened. Check that its folder is there and that this user may write to it.',
  26: 'the file is not a SQLite database.',
};

/**
 * Says why the start failed: in a sentence that names the variable to mend, or with the stack where nobody foresaw
 * it. Never with the error's properties, in which a URL with its password may be.
 */
export function explainStartError(thrown: unknown, host: string | undefined): string {
  return explainFault(thrown, host, 'Latchkey could not start');
}

/** Says why a command of the command line could not do its work, in the same words. */
export function explainCommandError(thrown: unknown): string {
  return explainFault(thrown, undefined, 'The command failed');
}

function explainFault(thrown: unknown, host: string | undefined, failure: string): string {
  if (thrown instanceof ConfigError || thrown instanceof WrongSecretError) return thrown.message;
  if (!(thrown instanceof Error)) return `${failure}: ${String(thrown)}`;
  const sentence = explainListening(thrown, host) ?? explainFile(thrown) ?? explainDatabaseFault(thrown);
  return `${failure}. ${sentence ?? thrown.stack ?? thrown.message}`;
}

function explainListening(error: StartError, host: string | undefined): string | undefined {
  if (error.syscall === 'getaddrinfo' && error.hostname === host) return `HOST: ${host} cannot be resolved.`;
  if (error.syscall !== 'listen') return undefined;
  switch (error.code) {
    case 'EADDRINUSE':
      return `PORT: ${error.port} is in use already on ${error.address}. Stop the other program, or set another PORT.`;
    case 'EACCES':
      return `PORT: this user may not listen on ${error.port}. Set PORT to 1024 or more.`;
    case 'EADDRNOTAVAIL':
      return `HOST: ${error.address} is not an address of this machine.`;
    default:
      return `HOST and PORT: listening failed (${error.code}).`;
  }
}

function explainFile({ code, syscall, path }: StartError): string | undefined {
  if (path === undefined || syscall === undefined) return undefined;
  if (path === '.env') return `The file .env cannot be read (${code}).`;
  return `DATABASE_URL, or DATA_DIR: ${path} cannot be used (${code}).`;
}

/** Says what is wrong with the database, naming the variable; undefined where it is nothing known. */
export function explainDatabaseFault(error: unknown): string | undefined {
  if (error instanceof DatabaseAbsentError) {
    const sentence = explainDatabaseFault(error.cause);
    return sentence && `${sentence} Waited ${error.waitedSeconds} seconds for it.`;
  }
  const fault = error instanceof Error ? describeDatabaseFault(error) : undefined;
  return fault && `DATABASE_URL: ${fault}`;
}

/** Says what is the matter with a database, or undefined where nobody foresaw it. */
export function describeDatabaseFault(error: StartError): string | undefined {
  return findDatabaseFault(error) ?? findTlsFault(error);
}

function findDatabaseFault(error: StartError): string | undefined {
  const { code = '', errcode, message } = error;
  if (error instanceof MigrationForbiddenError) {
    return 'the tables are missing or behind, and this user may not make or change them. Start once with their owner.';
  }
  if (error instanceof PendingMigrationsError) {
    return `the tables are missing or behind (${error.pending.join(', ')}). Bring them up to date with: latchkey migrate`;
  }
  if (error instanceof UnknownMigrationError) {
    return `the tables were made by a later version of Latchkey (${message}). Run that version, or restore a copy.`;
  }
  if (error instanceof MissingPasswordError) return 'the server asks for a password, and the URL has none.';
  // In PostgreSQL's own words, which name the user, the address and whether the connection was encrypted.
  if (code === '28000')
    return `the server refuses the connection: ${message}. Where it wants TLS, set sslmode=verify-full.`;
  const sqliteCode = error instanceof DatabaseBusyError ? sqliteBusy : errcode;
  const fault = sqliteCode === undefined ? postgresFaults[code] : sqliteFaults[sqliteCode & 0xff];
  if (fault !== undefined) return fault;
  // The driver's words.
  if (message === 'The server does not support SSL connections') {
    return 'the server does not offer TLS. Switch it on there (ssl = on), or set sslmode=disable.';
  }
  if (meansNoConnection(error))
    return `PostgreSQL does not answer (${code || message}). Start it, or correct host and port.`;
  // Of a pooler, which the settings for time-outs at the start of a connection reach first.
  if (code === '08P01' && message.includes('startup parameter')) {
    return 'the pooler refuses settings at the start of a connection. Add pgbouncer=true, and see docs/operations.md.';
  }
  return undefined;
}

function findTlsFault({ code = '', message }: StartError): string | undefined {
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return 'the certificate of the server is for another host. Correct the host, or the certificate.';
  }
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID') {
    return `the certificate of the server is not valid now (${code}). Renew it, or set the clock.`;
  }
  if (certificateFault.test(code)) {
    return `the certificate of the server is not to be trusted (${code}). Name the file of its authority as sslrootcert.`;
  }
  if (tlsFault.test(code)) return `TLS with the server failed (${code}). Check sslcert, sslkey and what it asks for.`;
  return message === 'There was an error establishing an SSL connection'
    ? 'the server answered the wish for TLS with an error. Its log says why.'
    : undefined;
}
