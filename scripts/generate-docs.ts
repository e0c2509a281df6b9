import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { renderAuditPage } from './audit-page.ts';
import { renderCliPage } from './cli-page.ts';
import { renderClientTypes } from './client-types.ts';
import { renderConfigurationPage } from './configuration-page.ts';
import { renderDecisionIndex, renderDocumentationIndex } from './documentation-index.ts';
import { renderEnvironmentExample } from './environment-example.ts';
import { renderErrorsPage } from './errors-page.ts';
import { renderMetricsPage } from './metrics-page.ts';
import { renderOpenApiDocument } from './openapi-document.ts';
import { renderOperationsPage } from './operations-page.ts';
import { performanceDocuments } from './performance-page.ts';

/**
 * `npm run docs` writes every document that is made from the source. `npm run check:docs` writes nothing and
 * fails when one of them is not what it would be now, so that a change of the source cannot leave them behind.
 */
const documents: { path: string; render: () => string | Promise<string> }[] = [
  { path: 'openapi.json', render: renderOpenApiDocument },
  { path: 'client/src/api-types.ts', render: renderClientTypes },
  { path: 'docs/errors.md', render: renderErrorsPage },
  { path: 'docs/configuration.md', render: renderConfigurationPage },
  { path: 'docs/metrics.md', render: renderMetricsPage },
  { path: 'docs/audit.md', render: renderAuditPage },
  { path: 'docs/cli.md', render: renderCliPage },
  { path: 'docs/operations.md', render: renderOperationsPage },
  ...performanceDocuments(),
  { path: 'docs/decisions/README.md', render: renderDecisionIndex },
  { path: 'docs/README.md', render: renderDocumentationIndex },
  { path: '.env.example', render: renderEnvironmentExample },
];

const root = join(import.meta.dirname, '..');
const { values } = parseArgs({ options: { check: { type: 'boolean', default: false } } });

for (const { path, render } of documents) {
  const text = await render();
  if (text === readIfPresent(join(root, path))) {
    console.log(`${path} is up to date`);
  } else if (values.check) {
    console.error(`${path} is stale: write it with "npm run docs" and commit it`);
    process.exitCode = 1;
  } else {
    writeFileSync(join(root, path), text);
    console.log(`${path} is written`);
  }
}

function readIfPresent(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return undefined;
  }
}
