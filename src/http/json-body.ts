import { AppError, fieldRefused } from '../errors.ts';
import { findJsonFaults, type JsonFault } from '../strict-json.ts';

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Parses a body as JSON, refusing what parsers disagree about and what cannot be stored (see strict-json.ts), and bytes
 * that are not UTF-8.
 */
export function parseJsonBody(body: Buffer): unknown {
  // An empty body is no body: the route says whether it may do without.
  if (body.length === 0) return undefined;
  const text = decode(body);
  const faults = findFaults(text);
  const errors = faults.map(({ path, message }) => ({ path, message }));
  if (faults.some(({ isMalformed }) => isMalformed)) throw new AppError('malformed_json', { errors });
  if (faults.length > 0) throw new AppError('validation_failed', { errors });
  const value: unknown = JSON.parse(text);
  // Null would pass for an absent body where one may be left out.
  if (value === null) throw fieldRefused('', 'must be object');
  return value;
}

function decode(body: Buffer): string {
  try {
    return decoder.decode(body);
  } catch (cause) {
    throw new AppError('malformed_json', { detail: 'The body is not valid UTF-8.', cause });
  }
}

function findFaults(text: string): JsonFault[] {
  try {
    // Before the tree: the parser that makes it is not the one whose value is used.
    JSON.parse(text);
    return findJsonFaults(text);
  } catch (cause) {
    // A RangeError is the parser's stack, exhausted by nesting far deeper than any limit of ours.
    const detail = cause instanceof RangeError ? 'The body is nested too deeply.' : undefined;
    throw new AppError('malformed_json', { cause, ...(detail === undefined ? {} : { detail }) });
  }
}
