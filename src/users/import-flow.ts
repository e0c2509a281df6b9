import type { FirebaseParameters } from '../crypto/firebase-hash.ts';
import { newId } from '../crypto/ids.ts';
import type { Deps } from '../deps.ts';
import { type BatchOptions, type BatchOutcome, writeBatch } from './import-batch.ts';
import { createLineReader } from './import-lines.ts';
import { type ImportReason, ImportStoppedError, type Refusal } from './import-reasons.ts';
import { type FileFormat, readRecords } from './import-records.ts';
import { createSeenSet, type SeenSet } from './import-seen.ts';
import { listRoles } from './import-store.ts';
import { type ImportedUser, type ImportRules, prepareUser } from './import-user.ts';

/** How a file is imported. */
export type ImportOptions = {
  format: FileFormat;
  /** Does every check and writes nothing. */
  isDryRun: boolean;
  update: boolean;
  ignoreUnknown: boolean;
  addressesAreProved: boolean;
  dropUnusableHashes: boolean;
  allowedRoles: readonly string[];
  firebase: FirebaseParameters | undefined;
};

/** What became of the lines of a file so far. */
export type ImportSummary = {
  lines: number;
  imported: number;
  /** Of the imported, those who must prove their address first. */
  invited: number;
  /** Of the imported, those who log in with e-mailed codes until they set a password. */
  withoutPassword: number;
  /** Of the imported, those whose hash was not taken over. */
  passwordsLeftOut: number;
  alreadyThere: number;
  updated: number;
  passwordsKept: number;
  refused: number;
  reasons: Partial<Record<ImportReason, number>>;
};

/** Who is told how it goes. */
export type ImportObserver = {
  onRefused(refusal: Refusal): void | Promise<void>;
  onProgress(summary: ImportSummary): void;
};

const linesPerBatch = 500;
const maxLines = 10_000_000;

/**
 * Imports a file of any length, a batch at a time: what is kept of it in memory is one batch, and eight bytes for each
 * address. Each batch is there as a whole or not at all, and lines that are there already are left alone, so an import
 * that was cut off is completed by running it again. No mail is sent, and nobody is logged in.
 */
export async function importUsers(
  deps: Deps,
  source: AsyncIterable<Buffer>,
  options: ImportOptions,
  observer: ImportObserver,
): Promise<ImportSummary> {
  const rules = await makeRules(deps, options);
  const batchOptions = { runId: newId(), update: options.update, isDryRun: options.isDryRun };
  const readLines = createLineReader(options.format, options);
  const run = createRun(deps, batchOptions, observer);
  const seen = createSeenSet();
  for await (const records of readRecords(source, options.format)) {
    for (let from = 0; from < records.length; from += linesPerBatch) {
      for (const line of readLines(records.slice(from, from + linesPerBatch))) {
        const judged = 'reason' in line ? line : requireFirst(prepareUser(line, rules), seen);
        await run.add(judged);
      }
    }
  }
  await run.flush();
  return run.summary;
}

async function makeRules({ db, keyring, clock }: Deps, options: ImportOptions): Promise<ImportRules> {
  const stored = await listRoles(db);
  // Of `admin` the name decides, whatever its row says.
  const roles = new Map(stored.map(({ name, permissions }) => [name, name === 'admin' || permissions !== '[]']));
  const missing = options.allowedRoles.find((name) => !roles.has(name));
  if (missing !== undefined) throw new ImportStoppedError(`There is no role ${JSON.stringify(missing)}.`);
  return { ...options, keyring, nowMs: clock.now(), roles, allowedRoles: new Set(options.allowedRoles) };
}

/** Refuses a user whom a line before has had. A line that was refused has had nobody. */
function requireFirst(judged: ImportedUser | Refusal, seen: SeenSet): ImportedUser | Refusal {
  if ('reason' in judged) return judged;
  const { line, row, hasOwnId } = judged;
  const names = hasOwnId ? [row.email, row.id] : [row.email];
  if (names.some(seen.has)) return { line, reason: 'duplicate_in_file', email: row.email };
  names.forEach(seen.add);
  return judged;
}

function createRun(deps: Deps, options: BatchOptions, observer: ImportObserver) {
  const summary: ImportSummary = {
    lines: 0,
    imported: 0,
    invited: 0,
    withoutPassword: 0,
    passwordsLeftOut: 0,
    alreadyThere: 0,
    updated: 0,
    passwordsKept: 0,
    refused: 0,
    reasons: {},
  };
  let batch: ImportedUser[] = [];

  async function refuse(refusal: Refusal): Promise<void> {
    summary.refused += 1;
    summary.reasons[refusal.reason] = (summary.reasons[refusal.reason] ?? 0) + 1;
    await observer.onRefused(refusal);
  }

  async function flush(): Promise<void> {
    const outcome = await writeBatch(deps, batch, options);
    batch = [];
    count(summary, outcome);
    for (const refusal of outcome.refusals) await refuse(refusal);
    observer.onProgress(summary);
  }

  return {
    summary,
    flush,
    async add(judged: ImportedUser | Refusal): Promise<void> {
      summary.lines += 1;
      if (summary.lines > maxLines) {
        throw new ImportStoppedError(`The file has more than ${maxLines.toLocaleString('en')} lines. Split it.`);
      }
      if ('reason' in judged) await refuse(judged);
      else batch.push(judged);
      if (batch.length >= linesPerBatch) await flush();
      else if (summary.lines % linesPerBatch === 0) observer.onProgress(summary);
    },
  };
}

function count(summary: ImportSummary, { imported, alreadyThere, updated, passwordsKept }: BatchOutcome): void {
  summary.imported += imported.length;
  summary.invited += imported.filter(({ row }) => row.status === 'invited').length;
  summary.withoutPassword += imported.filter(({ row }) => row.password_hash === null).length;
  summary.passwordsLeftOut += imported.filter(({ isPasswordLeftOut }) => isPasswordLeftOut).length;
  summary.alreadyThere += alreadyThere;
  summary.updated += updated;
  summary.passwordsKept += passwordsKept;
}
