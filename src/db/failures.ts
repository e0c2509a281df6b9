// PostgreSQL classes 08 (connection), 53 (resources), 57P (operator intervention) and the two that ask
// for a retry: 40001 and 40P01. Appendix A of its manual.
const unavailableSqlState = /^(?:08|53|57P|40001|40P01)/;
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
// pg reports these without a code.
const unavailableMessages =
  /^(?:timeout exceeded when trying to connect|Connection terminated|Query read timeout|Client has encountered a connection error)/;
// SQLite's primary result codes for a lock held past the busy timeout, a failing disk and a full one.
const unavailableSqliteCodes = new Set([5, 6, 10, 13]);

/** Says whether an error means that the database is away or overloaded, so that the answer is 503 and not 500. */
export function isDatabaseUnavailable(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error instanceof AggregateError) return error.errors.some(isDatabaseUnavailable);
  const { code, errcode } = error as Error & { code?: unknown; errcode?: unknown };
  if (typeof errcode === 'number') return unavailableSqliteCodes.has(errcode & 0xff);
  if (typeof code === 'string' && (unavailableSqlState.test(code) || unavailableNodeCodes.has(code))) return true;
  return unavailableMessages.test(error.message);
}

const sqliteUniqueErrors = new Set([2067, 1555]);

/** Says whether an error is the violation of a unique index or primary key: the loser of a race. */
export function isUniqueViolation(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code, errcode } = error as Error & { code?: unknown; errcode?: unknown };
  return code === '23505' || (typeof errcode === 'number' && sqliteUniqueErrors.has(errcode));
}

/** Says whether an error is the violation of a foreign key: what a row refers to was removed meanwhile. */
export function isForeignKeyViolation(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code, errcode } = error as Error & { code?: unknown; errcode?: unknown };
  return code === '23503' || errcode === 787;
}
