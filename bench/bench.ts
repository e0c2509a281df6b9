import { readOptions } from './options.ts';
import { writeResults } from './results.ts';
import { runBench } from './run.ts';
import { makeTables, printTables } from './table.ts';

/**
 * `npm run bench`: how fast the real program is beside a bare route, the hash function and, with `--peers`, other
 * services, all in one run with one load generator. Any reply that is not the expected success fails it.
 */
// What is told to stop must stop what it has started; that happens at the exit.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

const options = readOptions(process.argv.slice(2));
const results = await runBench(options, console.error);
const { machine, versions, settings } = results;
for (const facts of [machine, versions, settings]) {
  console.log(
    Object.entries(facts)
      .map(([name, value]) => `${name}: ${typeof value === 'number' ? Number(value.toPrecision(3)) : value}`)
      .join('; '),
  );
}
printTables(makeTables(results), console.log);
console.log(`\n${results.elapsedSeconds} s in all`);
if (options.jsonPath !== undefined) writeResults(options.jsonPath, results);
