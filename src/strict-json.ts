import { parse, type ValueNode } from '@humanwhocodes/momoa';

/** What is wrong with a JSON text, and where: a JSON Pointer (RFC 6901). */
export type JsonFault = { path: string; message: string; isMalformed: boolean };

const maxDepth = 16;
const stepMaxLength = 100;

/**
 * Finds in a JSON text what parsers disagree about: a member named twice (RFC 8259 section 4 leaves the choice open),
 * `__proto__`, nesting without end, and text with NUL or half a surrogate pair, which databases store differently or
 * not at all. Throws what the parser throws, a SyntaxError or, where its stack is exhausted by nesting, a RangeError.
 */
export function findJsonFaults(text: string): JsonFault[] {
  const faults: JsonFault[] = [];
  inspect(parse(text).body, '', 1, faults);
  return faults;
}

/** Returns false when the search is over: what is malformed need not be looked at further. */
function inspect(node: ValueNode, path: string, depth: number, faults: JsonFault[]): boolean {
  const isContainer = node.type === 'Array' || node.type === 'Object';
  if (isContainer && depth > maxDepth) return malformed(faults, path, 'is nested too deeply');
  if (node.type === 'String') {
    if (isUnstorable(node.value)) faults.push(unstorableAt(path));
  } else if (node.type === 'Number') {
    if (isInexact(node.value)) {
      faults.push({ path, message: 'must be a number that a double can hold exactly', isMalformed: false });
    }
  } else if (node.type === 'Array') {
    return node.elements.every((element, index) => inspect(element.value, `${path}/${index}`, depth + 1, faults));
  } else if (node.type === 'Object') {
    const names = new Set<string>();
    return node.members.every((member) => {
      const name = member.name.type === 'String' ? member.name.value : member.name.name;
      const memberPath = `${path}/${escapePointer(name)}`;
      const fault = findNameFault(name, names);
      if (fault !== undefined) return malformed(faults, memberPath, fault);
      names.add(name);
      if (isUnstorable(name)) faults.push(unstorableAt(memberPath));
      return inspect(member.value, memberPath, depth + 1, faults);
    });
  }
  return true;
}

function findNameFault(name: string, seen: ReadonlySet<string>): string | undefined {
  if (seen.has(name)) return 'is named twice';
  const isReserved = name === '__proto__' || name === 'constructor' || name === 'prototype';
  return isReserved ? 'is not an allowed name' : undefined;
}

/** Of a text that is malformed this alone is told. */
function malformed(faults: JsonFault[], path: string, message: string): false {
  faults.splice(0, faults.length, { path, message, isMalformed: true });
  return false;
}

function unstorableAt(path: string): JsonFault {
  return { path, message: 'must not hold NUL or unpaired surrogates', isMalformed: false };
}

/** JSON has numbers that JavaScript would silently change: 1e999 and integers beyond 2^53. */
function isInexact(value: number): boolean {
  return !Number.isFinite(value) || (Number.isInteger(value) && !Number.isSafeInteger(value));
}

function isUnstorable(text: string): boolean {
  return text.includes('\0') || !text.isWellFormed();
}

/** Escapes one step of a JSON Pointer (RFC 6901 section 3) and bounds its length. */
export function escapePointer(step: string): string {
  return step.slice(0, stepMaxLength).toWellFormed().replaceAll('~', '~0').replaceAll('/', '~1');
}
