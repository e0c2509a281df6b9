import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { apiPagePath, renderApiPage } from './api-page.ts';

/** `npm run docs:walk` writes the replies into docs/api.md; with `-- --check` it fails when one of them is another now. */
const { values } = parseArgs({ options: { check: { type: 'boolean', default: false } } });
const text = await renderApiPage();
if (text === readFileSync(apiPagePath, 'utf8')) {
  console.log('docs/api.md is up to date');
} else if (values.check) {
  console.error('docs/api.md is stale: write it with "npm run docs:walk" and commit it');
  process.exitCode = 1;
} else {
  writeFileSync(apiPagePath, text);
  console.log('docs/api.md is written');
}
