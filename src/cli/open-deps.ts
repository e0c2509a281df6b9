import { loadConfig } from '../config.ts';
import { createDeps, type Deps } from '../deps.ts';
import { createLog } from '../log.ts';

const standardError = 2;

/** Opens what the environment names, as the service does, for the time of one command. It logs to standard error. */
export async function withDeps<T>(work: (deps: Deps) => Promise<T>): Promise<T> {
  const config = loadConfig(process.env);
  const log = await createLog('warn', false, standardError);
  const deps = await createDeps(config, { log });
  try {
    return await work(deps);
  } finally {
    await deps.close();
  }
}
