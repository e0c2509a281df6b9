import { loadConfig } from '../config.ts';
import { createDeps, type Deps } from '../deps.ts';
import { createCommandLog } from '../log.ts';

/**
 * Opens what the environment names, as the service does, for the time of one command, and logs to standard error. Without
 * Redis: what users are and which hashes they have is kept in the database alone, so it may be away meanwhile.
 */
export async function withDeps<T>(work: (deps: Deps) => Promise<T>): Promise<T> {
  const config = loadConfig({ ...process.env, REDIS_URL: undefined, REDIS_URL_FILE: undefined });
  const log = createCommandLog((words) => console.error(`Warning: ${words}`));
  const deps = await createDeps(config, { log });
  try {
    return await work(deps);
  } finally {
    await deps.close();
  }
}
