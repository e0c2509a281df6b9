import { exitOnSignals } from './shutdown.ts';
import { keepYoungGenerationSmall } from './young-generation.ts';

// Before the rest is even loaded, which is most of the time that a start takes.
exitOnSignals();
keepYoungGenerationSmall();
const { runService } = await import('./serve.ts');
await runService();
