import { renderAnnouncement } from './announcement.ts';
import { buildApp, buildMetricsApp } from './app.ts';
import { type Config, isLoopback, loadConfig } from './config.ts';
import { createDeps, type Deps } from './deps.ts';
import { loadEnvFile } from './env-file.ts';
import { type Listener, listen, listenAddresses } from './http/listener.ts';
import { createLog } from './log.ts';
import { createMaintenance } from './maintenance/flow.ts';
import { createSealer } from './maintenance/sealing.ts';
import { stopOnSignals } from './shutdown.ts';
import { explainStartError } from './start-error.ts';
import { letYoungGenerationGrow } from './young-generation.ts';

// A scrape takes no longer.
const metricsDrainLimitMs = 1_000;

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
    const deps = await createDeps(config, { log, watchesProcess: true });
    const listener = await openListeners(deps);
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
    letYoungGenerationGrow();
    if (config.isDevelopment) console.log(renderAnnouncement(config));
  } catch (error) {
    log.debug({ err: error }, 'the start failed');
    throw error;
  }
}

async function openListeners(deps: Deps): Promise<Listener> {
  const { HOST, PORT } = deps.config.environment;
  let metrics: Listener | undefined;
  try {
    // First, so that what listens on PORT is what says that the start is over.
    metrics = await openMetricsListener(deps);
    const api = await listen(await buildApp(deps), await listenAddresses(HOST), PORT);
    // The metrics go last: how a stop went is worth a scrape.
    return { close: (limitMs) => api.close(limitMs).finally(() => metrics?.close(metricsDrainLimitMs)) };
  } catch (error) {
    await metrics?.close(0);
    await deps.close();
    throw error;
  }
}

async function openMetricsListener(deps: Deps): Promise<Listener | undefined> {
  const { isProduction, environment } = deps.config;
  const { METRICS_HOST, METRICS_PORT, METRICS_TOKEN } = environment;
  if (METRICS_PORT === undefined) return undefined;
  if (isProduction && METRICS_TOKEN === undefined && !isLoopback(METRICS_HOST)) {
    deps.log.warn('whoever reaches METRICS_PORT can read the metrics; set METRICS_TOKEN, or keep the port to yourself');
  }
  return listen(await buildMetricsApp(deps), await listenAddresses(METRICS_HOST), METRICS_PORT, 'Metrics');
}
