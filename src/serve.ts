import { renderAnnouncement } from './announcement.ts';
import { buildApp } from './app.ts';
import { type Config, loadConfig } from './config.ts';
import { createDeps, type Deps } from './deps.ts';
import { loadEnvFile } from './env-file.ts';
import { type Listener, listen, listenAddresses } from './http/listener.ts';
import { createLog } from './log.ts';
import { createMaintenance } from './maintenance/flow.ts';
import { createSealer } from './maintenance/sealing.ts';
import { stopOnSignals } from './shutdown.ts';
import { explainStartError } from './start-error.ts';

/** Runs the service until a signal ends it. A start that fails is explained and ends the process with 1. */
export async function runService(): Promise<void> {
  try {
    if (process.env.NODE_ENV !== 'production') loadEnvFile();
    await serve(loadConfig(process.env));
  } catch (error) {
    console.error(explainStartError(error, process.env.HOST));
    process.exit(1);
  }
}

async function serve(config: Config): Promise<void> {
  const { LOG_LEVEL } = config.environment;
  const log = await createLog(LOG_LEVEL, process.stdout.isTTY === true && !config.isProduction);
  try {
    const deps = await createDeps(config, { log });
    const listener = await openListener(deps);
    const chores = [createMaintenance(deps), createSealer(deps)];
    // Not before: a start that fails must not have begun to send mail.
    deps.outbox.start();
    for (const chore of chores) chore.start();
    stopOnSignals(deps, {
      stopServing: listener.close,
      stopWorking: async () => {
        await Promise.all(chores.map((chore) => chore.close()));
      },
    });
    if (config.isDevelopment) console.log(renderAnnouncement(config));
  } catch (error) {
    log.debug({ err: error }, 'the start failed');
    throw error;
  }
}

async function openListener(deps: Deps): Promise<Listener> {
  const { HOST, PORT } = deps.config.environment;
  try {
    return await listen(await buildApp(deps), await listenAddresses(HOST), PORT);
  } catch (error) {
    await deps.close();
    throw error;
  }
}
