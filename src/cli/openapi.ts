import { randomBytes } from 'node:crypto';
import type { Command } from 'commander';
import { loadConfig } from '../config.ts';
import { createDeps } from '../deps.ts';
import { createLog } from '../log.ts';

const explanation = `
It opens no database and needs no configuration: the document depends on the
version alone, but for the address of the server, which is PUBLIC_URL.

Example:
  PUBLIC_URL=https://auth.example.com latchkey openapi > openapi.json`;

/** Adds `openapi`, which prints the description of the API. */
export function addOpenApi(program: Command): void {
  program
    .command('openapi')
    .summary('print the OpenAPI document')
    .description('Prints the OpenAPI 3.1 document of this version as JSON.')
    .addHelpText('after', explanation)
    .action(async () => {
      process.stdout.write(await renderOpenApi(process.env.PUBLIC_URL || 'http://localhost:8000'));
    });
}

/** Starts the application on an empty database in memory and asks it for its OpenAPI document. */
export async function renderOpenApi(publicUrl: string): Promise<string> {
  const config = loadConfig({
    NODE_ENV: 'test',
    PUBLIC_URL: publicUrl,
    DATABASE_URL: 'sqlite::memory:',
    SECRET_KEY: randomBytes(48).toString('base64'),
    LOG_LEVEL: 'silent',
    // Without one the API has no /metrics to document.
    METRICS_TOKEN: randomBytes(32).toString('base64url'),
  });
  // Loaded only here: no other command needs the web server, which is much of what a start takes.
  const { buildApp } = await import('../app.ts');
  const deps = await createDeps(config, { log: await createLog('silent', false) });
  const app = await buildApp(deps);
  try {
    return `${JSON.stringify(app.swagger(), null, 2)}\n`;
  } finally {
    await app.close();
    await deps.close();
  }
}
