// PostgreSQL classes 08 (connection), 28 (authorisation), 53 (resources), 57P (operator intervention), and
// single states: a database that is not there or not writable, a statement, lock or idle time-out, and the
// two that ask for a retry. Appendix A of its manual.
const unavailableSqlState = /^(?:08...|28...|53...|57P..|57014|3D000|25006|25P03|55P03|40001|40P01)$/;
const unavailableNodeCodes = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
]);
// PostgreSQL's states that pass without anybody's doing: it starts, stops or restarts, has no connection left for
// now, or somebody holds a lock. 08P01, a protocol that is not understood, stays.
const passingSqlState = /^(?:08(?!P01)...|57P0[123]|53300|55P03)$/;
// pg reports these without a code.
const unavailableMessages =
  /^(?:timeout exceeded when trying to connect|timeout expired|Connection terminated|Query read timeout|Client has encountered a connection error|Client was closed)/;
// SQLite's primary result codes for a lock held past the wait, a file that cannot be written or opened, a
// failing disk and a full one.
const unavailableSqliteCodes = new Set([5, 6, 8, 10, 13, 14]);
const passingSqliteCodes = new Set([5, 6]);
const sqliteUniqueErrors = new Set([2067, 1555]);
const sqliteForeignKeyError = 787;

// A connection that is reset or times out has the same codes wherever it leads: a client that aborts its
// upload looks like a database that went away. So those count only in errors that came out of the driver.
const connectionErrors = new WeakSet<Error>();
// Whatever keeps a connection from being made, be it a name, a password or a certificate, there is no database.
const failedConnections = new WeakSet<Error>();

/** The database is there, but what was asked for could not have its turn. */
export class DatabaseBusyError extends Error {
  override readonly name = 'DatabaseBusyError';
}

/** Remembers that an error is the connection's to the database. Returns the error, to be thrown. */
export function markAsConnectionError(error: unknown): unknown {
  if (error instanceof Error) connectionErrors.add(error);
  return error;
}

/** Remembers that an error kept a connection from being made. Returns the error, to be thrown. */
export function markAsUnavailable(error: unknown): unknown {
  if (error instanceof Error) failedConnections.add(error);
  return error;
}

/** Says whether an error means that the database is away or overloaded, so that the answer is 503 and not 500. */
export function isDatabaseUnavailable(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error instanceof DatabaseBusyError || failedConnections.has(error)) return true;
  const { sqlState, sqliteCode } = readCodes(error);
  if (sqliteCode !== undefined) return unavailableSqliteCodes.has(sqliteCode & 0xff);
  if (sqlState !== undefined && unavailableSqlState.test(sqlState)) return true;
  return connectionErrors.has(error) && meansNoConnection(error);
}

/** Says whether an error at the start is one that passes by itself: the database is not there yet, or locked for now. */
export function mayPass(error: unknown): boolean {
  if (error instanceof DatabaseBusyError || meansNoConnection(error)) return true;
  const { sqlState, sqliteCode } = readCodes(error);
  if (sqliteCode !== undefined) return passingSqliteCodes.has(sqliteCode & 0xff);
  return sqlState !== undefined && passingSqlState.test(sqlState);
}

/** Says whether an error is the violation of a unique index or primary key: the loser of a race. */
export function isUniqueViolation(error: unknown): boolean {
  const { sqlState, sqliteCode } = readCodes(error);
  return sqlState === '23505' || (sqliteCode !== undefined && sqliteUniqueErrors.has(sqliteCode));
}

/** Says whether an error is the violation of a foreign key: what a row refers to was removed meanwhile. */
export function isForeignKeyViolation(error: unknown): boolean {
  const { sqlState, sqliteCode } = readCodes(error);
  return sqlState === '23503' || sqliteCode === sqliteForeignKeyError;
}

/** Says whether PostgreSQL undid a transaction that may succeed when it is run again: a deadlock, a conflict. */
export function isRetryable(error: unknown): boolean {
  const { sqlState } = readCodes(error);
  return sqlState === '40P01' || sqlState === '40001';
}

/** Says whether SQLite refused a statement because somebody else holds the lock: it did nothing and may be repeated. */
export function isSqliteBusy(error: unknown): boolean {
  const { sqliteCode } = readCodes(error);
  return sqliteCode !== undefined && (sqliteCode & 0xff) === 5;
}

/** Says whether the disk failed SQLite: SQLITE_IOERR, whatever its extension. */
export function isSqliteIoError(error: unknown): boolean {
  const { sqliteCode } = readCodes(error);
  return sqliteCode !== undefined && (sqliteCode & 0xff) === 10;
}

/** Says whether SQLite found its file damaged: SQLITE_CORRUPT or SQLITE_NOTADB. */
export function isSqliteDamage(error: unknown): boolean {
  const { sqliteCode } = readCodes(error);
  return sqliteCode !== undefined && [11, 26].includes(sqliteCode & 0xff);
}

function readCodes(error: unknown): { sqlState?: string; sqliteCode?: number } {
  if (!(error instanceof Error)) return {};
  const { code, errcode } = error as Error & { code?: unknown; errcode?: unknown };
  return {
    ...(typeof code === 'string' ? { sqlState: code } : {}),
    ...(typeof errcode === 'number' ? { sqliteCode: errcode } : {}),
  };
}

/**
 * Says whether an error is of a connection that could not be made or was lost. A name with several addresses that all
 * refuse gives one error that holds an error for each.
 */
export function meansNoConnection(error: unknown): boolean {
  if (error instanceof AggregateError) return error.errors.some(meansNoConnection);
  if (!(error instanceof Error)) return false;
  const { code, message, syscall } = error as NodeJS.ErrnoException;
  // A socket file that is not there yet.
  if (syscall === 'connect' && code === 'ENOENT') return true;
  return (code !== undefined && unavailableNodeCodes.has(code)) || unavailableMessages.test(message);
}
