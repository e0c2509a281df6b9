import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { buildNotesApi } from './notes-api.ts';

/**
 * `npm run example`: the service and, beside it, an application that uses it. Ctrl-C stops both. The service has a
 * database of its own and reads no `.env`, so nothing of yours is touched.
 */
const root = join(import.meta.dirname, '..');
const servicePort = process.env.PORT ?? '8000';
const examplePort = process.env.EXAMPLE_PORT ?? '8080';
const issuer = `http://localhost:${servicePort}`;
const origin = `http://localhost:${examplePort}`;
const dataFolder = process.env.EXAMPLE_DATA_DIR ?? join(root, 'data/example');
/** What the service prints once it serves. Another one may hold its port, so an answer there would prove nothing. */
const readyWords = 'Latchkey is ready';

mkdirSync(dataFolder, { recursive: true });
const app = await buildNotesApi({ issuer, audience: issuer, clientFolder: join(root, 'client/dist') });
await app.listen({ host: 'localhost', port: Number(examplePort) }).catch((error: NodeJS.ErrnoException) => {
  if (error.code !== 'EADDRINUSE') throw error;
  console.error(`EXAMPLE_PORT: ${examplePort} is in use already. Stop the other program, or set another EXAMPLE_PORT.`);
  process.exit(1);
});

const service = spawn(process.execPath, [join(root, 'src/start.js')], {
  cwd: dataFolder,
  env: {
    PATH: process.env.PATH,
    NODE_ENV: 'development',
    HOST: 'localhost',
    PORT: servicePort,
    DATA_DIR: dataFolder,
    // The one setting that a page on another origin needs.
    CORS_ORIGINS: origin,
    LOG_LEVEL: 'warn',
  },
  stdio: ['ignore', 'pipe', 'inherit'],
});
const ended = once(service, 'exit');

service.stdout.setEncoding('utf8').on('data', (text: string) => {
  process.stdout.write(text);
  if (text.includes(readyWords)) console.log(`  The example is ready at ${origin}\n`);
});

// The terminal sends Ctrl-C to both. A signal that is sent to this process alone is passed on.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => service.kill(signal));

const [code] = await ended;
await app.close();
process.exitCode = code ?? 1;
