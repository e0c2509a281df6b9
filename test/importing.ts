import { Readable } from 'node:stream';
import { type ImportOptions, type ImportSummary, importUsers } from '../src/users/import-flow.ts';
import type { Refusal } from '../src/users/import-reasons.ts';
import type { System } from './system.ts';

/** What an import said at its end, with every line that it refused. */
export type Imported = ImportSummary & { refusals: Refusal[] };

const defaults: ImportOptions = {
  format: 'ndjson',
  isDryRun: false,
  update: false,
  ignoreUnknown: false,
  addressesAreProved: true,
  dropUnusableHashes: false,
  allowedRoles: [],
  firebase: undefined,
};

/** Imports a file, in pieces of any size. */
export async function importFile(
  { deps }: Pick<System, 'deps'>,
  pieces: Iterable<string | Buffer> | AsyncIterable<Buffer>,
  options: Partial<ImportOptions> = {},
): Promise<Imported> {
  const refusals: Refusal[] = [];
  const source = Symbol.asyncIterator in Object(pieces) ? (pieces as AsyncIterable<Buffer>) : toStream(pieces);
  const observer = { onRefused: (refusal: Refusal) => void refusals.push(refusal), onProgress() {} };
  const summary = await importUsers(deps, source, { ...defaults, ...options }, observer);
  return { ...summary, refusals };
}

function toStream(pieces: unknown): AsyncIterable<Buffer> {
  return Readable.from([...(pieces as Iterable<string | Buffer>)].map((piece) => Buffer.from(piece)));
}

/** Imports lines of NDJSON. */
export function importLines(
  system: Pick<System, 'deps'>,
  lines: readonly object[],
  options: Partial<ImportOptions> = {},
): Promise<Imported> {
  return importFile(system, [lines.map((line) => `${JSON.stringify(line)}\n`).join('')], options);
}
