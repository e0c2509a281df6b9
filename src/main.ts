import { exitOnSignals } from './shutdown.ts';

// Before the rest is even loaded, which is most of the time that a start takes.
exitOnSignals();
const { runService } = await import('./serve.ts');
await runService();
