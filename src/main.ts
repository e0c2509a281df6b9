import { buildApp } from './app.ts';
import { type Config, ConfigError, loadConfig } from './config.ts';
import { createDeps } from './deps.ts';
import { WrongSecretError } from './keys/flow.ts';
import { createLog } from './log.ts';
import { createMaintenance } from './maintenance/flow.ts';

const drainLimitMs = 9_000;

try {
  if (process.env.NODE_ENV !== 'production') loadEnvFile();
  await serve(loadConfig(process.env));
} catch (error) {
  // What the operator can mend is told in a sentence; anything else keeps its stack.
  const isExpected = error instanceof ConfigError || error instanceof WrongSecretError;
  console.error(isExpected ? error.message : error);
  process.exitCode = 1;
}

async function serve(config: Config): Promise<void> {
  const { HOST, PORT, LOG_LEVEL } = config.environment;
  const log = createLog(LOG_LEVEL, process.stdout.isTTY === true && !config.isProduction);
  const deps = await createDeps(config, { log });
  const app = await buildApp(deps);
  const maintenance = createMaintenance(deps);
  deps.outbox.start();
  maintenance.start();
  await app.listen({ host: HOST, port: PORT });
  announce(config);

  const stop = (signal: string): void => {
    log.info({ signal }, 'stopping: finishing what is under way');
    setTimeout(() => process.exit(1), drainLimitMs).unref();
    app
      .close()
      .then(() => maintenance.close())
      .then(() => deps.close())
      .then(
        () => process.exit(0),
        (error: unknown) => {
          log.error({ err: error }, 'stopping failed');
          process.exit(1);
        },
      );
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
}

function announce({ environment, isDevelopment }: Config): void {
  const { PUBLIC_URL, DOCS, SMTP_URL } = environment;
  if (!isDevelopment) return;
  console.log(`\n  Latchkey is ready at ${PUBLIC_URL}`);
  if (DOCS === 'on') console.log(`  documentation       ${PUBLIC_URL}/docs`);
  if (SMTP_URL === undefined) console.log(`  development mailbox ${PUBLIC_URL}/dev/mailbox\n`);
}

function loadEnvFile(): void {
  try {
    process.loadEnvFile();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
