import { parse } from 'csv-parse/sync';
import { findJsonFaults, type JsonFault } from '../strict-json.ts';
import { importFieldNames } from './import-fields.ts';
import { ImportStoppedError, type Refusal } from './import-reasons.ts';
import type { FileFormat, FileRecord } from './import-records.ts';
import { escapeColumn, unescapeCell } from './spreadsheet.ts';

/** A line as an object, before anything in it was checked. */
export type RawLine = { line: number; fields: Record<string, unknown> };

/** Turns records into objects, or says why that is not possible. */
export type LineReader = (records: readonly FileRecord[]) => (RawLine | Refusal)[];

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Creates what reads the lines of one file. */
export function createLineReader(format: FileFormat, options: { ignoreUnknown: boolean }): LineReader {
  if (format === 'csv') return createCsvReader(options);
  return (records) =>
    records.map((record) => {
      const text = decode(record);
      return typeof text === 'string' ? readJsonLine(record.line, text) : text;
    });
}

function decode({ line, bytes }: FileRecord): string | Refusal {
  if (bytes === undefined) return { line, reason: 'line_too_long' };
  try {
    return decoder.decode(bytes);
  } catch {
    return { line, reason: 'not_utf8' };
  }
}

function readJsonLine(line: number, text: string): RawLine | Refusal {
  const value = readJson(text);
  if (value.faults.length > 0) return { line, reason: 'malformed_json', detail: describe(value.faults) };
  if (!isObject(value.json)) return { line, reason: 'malformed_json' };
  const given = Object.entries(value.json).filter(([, cell]) => cell !== null && cell !== '');
  const fields = Object.fromEntries(given);
  // What SQLite has for true and false.
  if (fields.email_verified === 1 || fields.email_verified === 0) fields.email_verified = fields.email_verified === 1;
  return { line, fields };
}

function readJson(text: string): { json?: unknown; faults: readonly JsonFault[] } {
  try {
    const json: unknown = JSON.parse(text);
    const faults = findJsonFaults(text);
    return faults.length === 0 ? { json, faults } : { faults };
  } catch (error) {
    const message = error instanceof RangeError ? 'is nested too deeply' : 'is not JSON';
    return { faults: [{ path: '', message, isMalformed: true }] };
  }
}

function describe(faults: readonly JsonFault[]): string {
  return faults
    .slice(0, 5)
    .map(({ path, message }) => `${path} ${message}`.trim())
    .join('; ');
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function createCsvReader({ ignoreUnknown }: { ignoreUnknown: boolean }): LineReader {
  let columns: readonly string[] | undefined;
  return (records) => {
    const lines: (RawLine | Refusal)[] = [];
    for (const [index, cells] of readCells(records).entries()) {
      const line = records[index]?.line ?? 0;
      if ('reason' in cells) {
        if (columns === undefined) throw new ImportStoppedError('The header of the file cannot be read.');
        lines.push(cells);
      } else if (columns === undefined) columns = checkHeader(cells.cells, ignoreUnknown);
      else lines.push(readRow(line, columns, cells.cells));
    }
    return lines;
  };
}

type Cells = { cells: string[] } | Refusal;

/** All records in one go, which is several times quicker; one at a time only where one of them is refused. */
function readCells(records: readonly FileRecord[]): Cells[] {
  const texts = records.map(decode);
  if (texts.every((text) => typeof text === 'string')) {
    const rows = parseCsv(texts.join('\n'));
    if (rows?.length === records.length) return rows.map((cells) => ({ cells }));
  }
  return texts.map((text, index) => {
    if (typeof text !== 'string') return text;
    const rows = parseCsv(text);
    const [cells] = rows ?? [];
    if (rows?.length === 1 && cells !== undefined) return { cells };
    return { line: records[index]?.line ?? 0, reason: 'malformed_csv' };
  });
}

function parseCsv(text: string): string[][] | undefined {
  try {
    // A carriage return at the end of a line has been taken off; another one is a part of its cell.
    return parse(text, { record_delimiter: '\n', relax_column_count: true });
  } catch {
    return undefined;
  }
}

function checkHeader(cells: readonly string[], ignoreUnknown: boolean): readonly string[] {
  const names = cells.map((cell) => cell.trim());
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new ImportStoppedError(`The header names the column ${quoteName(twice)} twice.`);
  if (!names.includes('email')) throw new ImportStoppedError('The header names no column email.');
  if (names.includes('password')) {
    throw new ImportStoppedError('The file has a column password. Only hashes are imported, as password_hash.');
  }
  const unknown = names.filter((name) => !importFieldNames.includes(name) && name !== escapeColumn);
  if (unknown.length > 0 && !ignoreUnknown) {
    const listed = unknown.slice(0, 10).map(quoteName).join(', ');
    throw new ImportStoppedError(`The header names columns that are not known: ${listed}. See --ignore-unknown.`);
  }
  return names;
}

function quoteName(name: string): string {
  return JSON.stringify(name.slice(0, 60));
}

function readRow(line: number, columns: readonly string[], cells: readonly string[]): RawLine | Refusal {
  if (cells.length !== columns.length) return { line, reason: 'wrong_cell_count' };
  const isEscaped = cells[columns.indexOf(escapeColumn)] === 'yes';
  const fields: Record<string, unknown> = {};
  for (const [index, name] of columns.entries()) {
    const cell = isEscaped ? unescapeCell(cells[index] ?? '') : (cells[index] ?? '');
    if (cell === '' || name === escapeColumn) continue;
    const value = readCell(name, cell);
    if ('faults' in value) return { line, reason: 'invalid_field', detail: `${name} ${describe(value.faults)}` };
    fields[name] = value.value;
  }
  return { line, fields };
}

const trueWords: ReadonlySet<string> = new Set(['true', 't', 'yes', '1']);
const falseWords: ReadonlySet<string> = new Set(['false', 'f', 'no', '0']);

/** Reads the three fields that are not text. What cannot be read stays text, which the schema refuses. */
function readCell(name: string, cell: string): { value: unknown } | { faults: readonly JsonFault[] } {
  if (name === 'email_verified') {
    const word = cell.toLowerCase();
    if (trueWords.has(word)) return { value: true };
    return { value: falseWords.has(word) ? false : cell };
  }
  if (name === 'metadata' || (name === 'roles' && cell.startsWith('['))) {
    const { json, faults } = readJson(cell);
    return faults.length > 0 ? { faults } : { value: json };
  }
  return { value: name === 'roles' ? cell.split('|') : cell };
}
