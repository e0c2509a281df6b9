import { buildApp } from '../src/app.ts';
import { loadConfig } from '../src/config.ts';
import { createDeps } from '../src/deps.ts';
import { createLog } from '../src/log.ts';
import { createMaintenance } from '../src/maintenance/flow.ts';

/** The service of `bench:cleanup`: the real application and the real cleaner, which comes when it is told to. */
const config = loadConfig(process.env);
const deps = await createDeps(config, { log: await createLog('warn', false) });
const app = await buildApp(deps);
const origin = await app.listen({ host: '127.0.0.1', port: 0 });
let cleaner = createMaintenance(deps);

async function sweep(): Promise<void> {
  cleaner = createMaintenance(deps);
  const startedAtMs = performance.now();
  const removed = await cleaner.runOnce();
  process.send?.({ removed, seconds: (performance.now() - startedAtMs) / 1000 });
}

process.on('message', async (order) => {
  if (order === 'sweep') await sweep();
  else await cleaner.close();
});
process.on('disconnect', async () => {
  await cleaner.close();
  await app.close();
  await deps.close();
});
process.send?.({ origin });
