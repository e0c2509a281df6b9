import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readResults, writeResults } from '../bench/results.ts';
import { pathsOf, performanceDocuments } from './performance-page.ts';

/**
 * `npm run bench:page -- results.json …` keeps what `npm run bench -- --json results.json` has written in docs/, and makes
 * docs/performance.md and its pictures of it. Without a file it makes them of what is kept.
 */
const root = join(import.meta.dirname, '..');
for (const path of process.argv.slice(2)) {
  const results = readResults(path);
  const kept = pathsOf(results.database).results;
  writeResults(join(root, kept), results);
  console.log(`${kept} is written`);
}
for (const { path, render } of performanceDocuments()) {
  writeFileSync(join(root, path), render());
  console.log(`${path} is written`);
}
