import { DatabaseSync } from 'node:sqlite';
import { type Backend, createScratch } from './system.ts';

/** What a program is started with on an empty database of its own. */
type ScratchEnvironment = Record<string, string> & { DATA_DIR: string };

/** Runs a check with an empty database, and leaves nothing behind. */
export async function inScratch(
  check: (scratch: ScratchEnvironment) => Promise<void>,
  backend: Backend = 'sqlite+memory',
): Promise<void> {
  const scratch = await createScratch(backend);
  try {
    await check(scratch.environment as ScratchEnvironment);
  } finally {
    await scratch.remove();
  }
}

/** Reads a SQLite file, also one that a program has open. */
export function readSqlite(path: string, query: string) {
  const database = new DatabaseSync(path, { readOnly: true });
  try {
    return database.prepare(query).all();
  } finally {
    database.close();
  }
}
