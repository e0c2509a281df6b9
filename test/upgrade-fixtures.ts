import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import pg from 'pg';
import { type Backend, createScratch } from './system.ts';

/** What is known of a database that an earlier version made. All secrets in it were made for this, and serve nowhere. */
export type UpgradeFacts = {
  version: string;
  publicUrl: string;
  secretKey: string;
  madeAtMs: number;
  users: { id: string; email: string; password: string; refreshToken: string; accessToken: string }[];
  administratorId: string;
  disabledId: string;
  /** Of a session that was logged out. */
  endedRefreshToken: string;
  /** Already replaced by that of the first user. */
  spentRefreshToken: string;
};

/** Where they lie, one folder for each version. */
export const upgradeFolder = join(import.meta.dirname, 'fixtures/upgrade');

/** The versions that there is a database of. */
export const earlierVersions: readonly string[] = readdirSync(upgradeFolder).toSorted();

/** Reads what is known of the database of a version. */
export function readFacts(version: string, backend: Backend): UpgradeFacts {
  return JSON.parse(readFileSync(pathOf(version, backend, 'json'), 'utf8'));
}

/** Puts the database of a version into a scratch of its own, as that version left it. */
export async function restoreDatabase(version: string, backend: Backend): ReturnType<typeof createScratch> {
  const scratch = await createScratch(backend);
  const statements = readFileSync(pathOf(version, backend, 'sql'), 'utf8');
  const { DATA_DIR = '', DATABASE_URL } = scratch.environment;
  if (DATABASE_URL === undefined) {
    const path = join(DATA_DIR, 'latchkey.db');
    closeSync(openSync(path, 'wx', 0o600));
    const database = new DatabaseSync(path, { enableForeignKeyConstraints: false });
    database.exec(`begin; ${statements} commit;`);
    database.close();
  } else {
    const client = new pg.Client({ connectionString: DATABASE_URL });
    await client.connect();
    await client.query(statements);
    await client.end();
  }
  return scratch;
}

function pathOf(version: string, backend: Backend, extension: 'json' | 'sql'): string {
  return join(upgradeFolder, version, `${backend === 'sqlite+memory' ? 'sqlite' : 'postgres'}.${extension}`);
}
