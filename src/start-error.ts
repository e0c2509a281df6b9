import { ConfigError } from './config.ts';
import { DatabaseBusyError, meansNoConnection } from './db/failures.ts';
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
  '28P01': 'the server refuses the user name or the password.',
  '28000': 'the server refuses the user name or the password.',
  '42501': 'the user may not make tables in that database. Grant it CREATE on the schema.',
  '25006': 'the server is read-only. Name the primary, not a standby.',
  '53300': 'the server has no connection left. Raise its max_connections.',
  '57P03': 'the server is starting up or shutting down. Start again when it is ready.',
};

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
  if (thrown instanceof ConfigError || thrown instanceof WrongSecretError) return thrown.message;
  if (!(thrown instanceof Error)) return `Latchkey could not start: ${String(thrown)}`;
  const sentence = explainListening(thrown, host) ?? explainFile(thrown) ?? explainDatabase(thrown);
  return `Latchkey could not start. ${sentence ?? thrown.stack ?? thrown.message}`;
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

function explainDatabase(error: StartError): string | undefined {
  const { code = '', errcode, message } = error;
  const sqliteCode = error instanceof DatabaseBusyError ? sqliteBusy : errcode;
  const fault = sqliteCode === undefined ? postgresFaults[code] : sqliteFaults[sqliteCode & 0xff];
  if (fault !== undefined) return `DATABASE_URL: ${fault}`;
  if (meansNoConnection(error)) {
    return `DATABASE_URL: PostgreSQL does not answer (${code || message}). Start it, or correct host and port.`;
  }
  // Kysely's words.
  if (message.startsWith('corrupted migrations')) {
    return `DATABASE_URL: the tables were made by another version of Latchkey (${message}).`;
  }
  return undefined;
}
