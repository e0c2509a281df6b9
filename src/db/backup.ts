import { randomUUID } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, linkSync, openSync, rmSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { backup, DatabaseSync } from 'node:sqlite';
import { isSqliteDamage } from './failures.ts';

/** Thrown, with a sentence for the operator, when no backup can be made. No file was made then. */
export class BackupRefusedError extends Error {
  override readonly name = 'BackupRefusedError';
}

/** How far a backup is. */
export type BackupProgress = { step: 'copied' | 'checking'; pages: number; pagesTotal: number };

export type BackupReport = { bytes: number; pages: number };

type BackupOptions = {
  sourcePath: string;
  targetPath: string;
  onProgress: (progress: BackupProgress) => void;
  /** Ends the copy; nothing is left of it. */
  signal: AbortSignal;
};

// Four megabytes at a time: often enough to say how far it is, and to be interrupted.
const pagesPerStep = 1_000;
const busyWaitMs = 5_000;

/**
 * Copies a SQLite database as it is at this moment into a new file, while others read and write it. The file has its name
 * only when it is complete, on the disk and was checked.
 */
export async function backUpDatabase({
  sourcePath,
  targetPath,
  onProgress,
  signal,
}: BackupOptions): Promise<BackupReport> {
  if (!existsSync(sourcePath)) throw new BackupRefusedError(`There is no database at ${sourcePath}.`);
  if (existsSync(targetPath)) throw takenError(targetPath);
  const draftPath = `${targetPath}.${randomUUID()}.part`;
  makePrivately(draftPath);
  try {
    const pages = await copyPages(sourcePath, draftPath, { onProgress, signal });
    onProgress({ step: 'checking', pages, pagesTotal: pages });
    completeAndCheck(draftPath);
    signal.throwIfAborted();
    giveName(draftPath, targetPath);
    return { bytes: statSync(targetPath).size, pages };
  } finally {
    for (const suffix of ['', '-wal', '-shm', '-journal']) rmSync(draftPath + suffix, { force: true });
  }
}

function makePrivately(path: string): void {
  try {
    closeSync(openSync(path, 'wx', 0o600));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new BackupRefusedError(`No file can be made in ${dirname(resolve(path))} (${code}).`, { cause: error });
  }
}

async function copyPages(
  sourcePath: string,
  draftPath: string,
  { onProgress, signal }: Pick<BackupOptions, 'onProgress' | 'signal'>,
): Promise<number> {
  const source = new DatabaseSync(sourcePath, { readOnly: true, timeout: busyWaitMs });
  try {
    // One snapshot for the whole copy. Without it every write of the service would make it begin anew.
    source.exec('begin');
    source.prepare('select count(*) from sqlite_schema').get();
    return await backup(source, draftPath, {
      rate: pagesPerStep,
      progress: ({ totalPages, remainingPages }) => {
        signal.throwIfAborted();
        onProgress({ step: 'copied', pages: totalPages - remainingPages, pagesTotal: totalPages });
      },
    });
  } finally {
    source.close();
  }
}

/** Makes the copy a single file, which can be moved by itself, and reads all of it. */
function completeAndCheck(path: string): void {
  const copy = new DatabaseSync(path, { enableForeignKeyConstraints: true });
  try {
    copy.exec('pragma journal_mode = delete; pragma synchronous = full');
    const faults = findFaults(copy);
    if (faults.length > 0) {
      throw new BackupRefusedError(
        `The copy is damaged, and most likely so is the database (${faults.slice(0, 3).join('; ')}). ` +
          'Keep the last good backup, and look at the disk.',
      );
    }
  } finally {
    copy.close();
  }
  syncToDisk(path);
}

function findFaults(copy: DatabaseSync): string[] {
  try {
    const ofPages = copy
      .prepare('pragma integrity_check(10)')
      .all()
      .map((row) => String(row.integrity_check));
    const ofRows = copy.prepare('pragma foreign_key_check').all();
    const dangling = ofRows.map(({ table }) => `${table} refers to a row that is not there`);
    return [...ofPages, ...dangling].filter((fault) => fault !== 'ok');
  } catch (error) {
    if (!isSqliteDamage(error)) throw error;
    return [(error as Error).message];
  }
}

/** A name that somebody else has taken meanwhile stays theirs, which renaming would not see to. */
function giveName(draftPath: string, targetPath: string): void {
  try {
    linkSync(draftPath, targetPath);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw takenError(targetPath);
    throw error;
  }
  syncToDisk(dirname(resolve(targetPath)));
}

function syncToDisk(path: string): void {
  const handle = openSync(path, 'r');
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

function takenError(path: string): BackupRefusedError {
  return new BackupRefusedError(`${path} is there already and stays as it is. Name a new file.`);
}
