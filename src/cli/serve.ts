import type { Command } from 'commander';
import { exitOnSignals } from '../shutdown.ts';
import { keepYoungGenerationSmall } from '../young-generation.ts';

const explanation = `
The same as npm start. SIGTERM or Ctrl-C lets what is under way finish and ends
it with exit code 0.

Example:
  PORT=9000 latchkey serve`;

/** Adds `serve`, which runs the service. */
export function addServe(program: Command): void {
  program
    .command('serve')
    .summary('run the service')
    .description('Runs the service until a signal ends it.')
    .addHelpText('after', explanation)
    .action(async () => {
      exitOnSignals();
      keepYoungGenerationSmall();
      // Loaded only here: no other command needs the web server.
      const { runService } = await import('../serve.ts');
      await runService();
      // The process ends by a signal, and its exit code is that of the service.
      await new Promise<never>(() => {});
    });
}
