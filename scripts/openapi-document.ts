import { randomBytes } from 'node:crypto';
import { buildApp } from '../src/app.ts';
import { loadConfig } from '../src/config.ts';
import { createDeps } from '../src/deps.ts';
import { createLog } from '../src/log.ts';

/** The address that stands for the reader's own in every generated document. */
export const exampleUrl = 'https://auth.example.com';

/** Starts the application on an empty database in memory and asks it for its OpenAPI document. */
export async function renderOpenApiDocument(): Promise<string> {
  const config = loadConfig({
    NODE_ENV: 'test',
    PUBLIC_URL: exampleUrl,
    DATABASE_URL: 'sqlite::memory:',
    SECRET_KEY: randomBytes(48).toString('base64'),
    LOG_LEVEL: 'silent',
    // Without one the API has no /metrics to document.
    METRICS_TOKEN: randomBytes(32).toString('base64url'),
  });
  const deps = await createDeps(config, { log: await createLog('silent', false) });
  const app = await buildApp(deps);
  try {
    return `${JSON.stringify(app.swagger(), null, 2)}\n`;
  } finally {
    await app.close();
    await deps.close();
  }
}
