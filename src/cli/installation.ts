import { existsSync } from 'node:fs';
import { userInfo } from 'node:os';
import { type Config, databaseUrlOf, loadConfig, loadDatabaseSettings } from '../config.ts';
import { createDeps, type Deps } from '../deps.ts';
import { createCommandLog } from '../log.ts';
import { CommandFailedError } from './command-failed.ts';

const sqlitePrefix = 'sqlite:';
const memoryUrl = 'sqlite::memory:';
const connectionsOfCommand = 2;
const redisWaitMs = 3_000;
const redisLookEveryMs = 20;

/** Whether a command works on what is there, or may be the first thing that is ever run. */
type Occasion = 'existing' | 'first';

/**
 * Opens the installation that the environment names as the service does, but serves nothing and delivers no mail, and
 * closes it after the work. A running service stays as it is: tables that an older one may be using are not changed.
 */
export async function withInstallation<T>(occasion: Occasion, work: (deps: Deps) => Promise<T>): Promise<T> {
  if (occasion === 'existing') requireExisting();
  const config = asCommand(loadConfig(process.env));
  const log = createCommandLog((words) => console.error(`Warning: ${words}`));
  const tables = occasion === 'existing' ? 'require' : 'create';
  const deps = await createDeps(config, { log, tables });
  try {
    await waitForRedis(deps);
    return await work({ ...deps, outbox: { ...deps.outbox, wake: leaveToService } });
  } finally {
    await deps.close();
  }
}

/** A command ends before a mail server has answered, and a mailbox of its own would be gone with it. */
function leaveToService(): void {}

/** In a wrong folder a command would else make a new, empty installation, with a secret of its own, and report on that. */
function requireExisting(): void {
  const url = databaseUrlOf(loadDatabaseSettings(process.env));
  if (!url.startsWith(sqlitePrefix) || url === memoryUrl) return;
  const path = url.slice(sqlitePrefix.length);
  if (existsSync(path)) return;
  throw new CommandFailedError(
    `There is no database at ${path}. Go to the folder that Latchkey runs in, or set DATA_DIR or DATABASE_URL as it does.`,
  );
}

/** A person waits for a command: it says at once that the database is away, and takes little of what others need. */
function asCommand(config: Config): Config {
  const limits = { DATABASE_START_WAIT_SECONDS: 0, DATABASE_POOL_MAX: connectionsOfCommand, HASH_THREADS: 1 };
  return { ...config, environment: { ...config.environment, ...limits } };
}

/** What ends a session tells the session cache of it, and a connection that is just being made would not carry that. */
async function waitForRedis({ redis }: Deps): Promise<void> {
  const giveUpAtMs = performance.now() + redisWaitMs;
  while (redis !== undefined && !redis.isReady && performance.now() < giveUpAtMs) {
    await new Promise((resolve) => setTimeout(resolve, redisLookEveryMs));
  }
}

/** Who runs the command, as the system calls them: what the events of its acts say. */
export function operatorName(): string {
  try {
    return userInfo().username;
  } catch {
    // A container may run as a number that nobody has named.
    return `uid ${process.getuid?.() ?? 'unknown'}`;
  }
}
