import { type DocumentNode, parse, type ValueNode } from '@humanwhocodes/momoa';
import { AppError, type FieldError, fieldRefused } from '../errors.ts';
import { escapePointer } from './problem.ts';

const maxDepth = 16;
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Parses a body as JSON, refusing what parsers disagree about: a member named twice (RFC 8259 section 4
 * leaves the choice open), `__proto__`, nesting without end, bytes that are not UTF-8, and text with NUL
 * or half a surrogate pair, which databases store differently or not at all.
 */
export function parseJsonBody(body: Buffer): unknown {
  // An empty body is no body: the route says whether it may do without.
  if (body.length === 0) return undefined;
  const text = decode(body);
  const faults = findFaults(text);
  if (faults.length > 0) throw new AppError('validation_failed', { errors: faults });
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

function findFaults(text: string): FieldError[] {
  const faults: FieldError[] = [];
  inspect(parseTree(text).body, '', 1, faults);
  return faults;
}

function parseTree(text: string): DocumentNode {
  try {
    JSON.parse(text);
    return parse(text);
  } catch (cause) {
    // A RangeError is the parser's stack, exhausted by nesting far deeper than any limit of ours.
    const detail = cause instanceof RangeError ? 'The body is nested too deeply.' : undefined;
    throw new AppError('malformed_json', { cause, ...(detail === undefined ? {} : { detail }) });
  }
}

function inspect(node: ValueNode, path: string, depth: number, faults: FieldError[]): void {
  const isContainer = node.type === 'Array' || node.type === 'Object';
  if (isContainer && depth > maxDepth) throw malformedAt(path, 'is nested too deeply');
  if (node.type === 'String') {
    if (isUnstorable(node.value)) faults.push({ path, message: 'must not hold NUL or unpaired surrogates' });
  } else if (node.type === 'Number') {
    if (isInexact(node.value)) faults.push({ path, message: 'must be a number that a double can hold exactly' });
  } else if (node.type === 'Array') {
    for (const [index, element] of node.elements.entries())
      inspect(element.value, `${path}/${index}`, depth + 1, faults);
  } else if (node.type === 'Object') {
    const names = new Set<string>();
    for (const member of node.members) {
      const name = member.name.type === 'String' ? member.name.value : member.name.name;
      const memberPath = `${path}/${escapePointer(name)}`;
      checkMemberName(name, names, memberPath);
      if (isUnstorable(name)) faults.push({ path: memberPath, message: 'must not hold NUL or unpaired surrogates' });
      inspect(member.value, memberPath, depth + 1, faults);
    }
  }
}

function checkMemberName(name: string, seen: Set<string>, path: string): void {
  if (seen.has(name)) throw malformedAt(path, 'is named twice');
  if (name === '__proto__' || name === 'constructor' || name === 'prototype') {
    throw malformedAt(path, 'is not an allowed name');
  }
  seen.add(name);
}

function malformedAt(path: string, message: string): AppError {
  return new AppError('malformed_json', { errors: [{ path, message }] });
}

/** JSON has numbers that JavaScript would silently change: 1e999 and integers beyond 2^53. */
function isInexact(value: number): boolean {
  return !Number.isFinite(value) || (Number.isInteger(value) && !Number.isSafeInteger(value));
}

function isUnstorable(text: string): boolean {
  return text.includes('\0') || !text.isWellFormed();
}
