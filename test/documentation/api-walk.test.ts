import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { apiPagePath, renderApiPage } from '../../scripts/api-page.ts';

const page = readFileSync(apiPagePath, 'utf8');

test('every block of docs/api.md can be pasted, and is answered by what stands under it', async () => {
  const [now, written] = [await renderApiPage(), page].map((text) => text.split(/^(?=```sh$)/m));
  // One block after the other, because the difference between two whole pages is hard to read.
  for (const [index, block] of (now ?? []).entries())
    assert.equal(written?.[index], block, 'write the replies with "npm run docs:walk"');
  assert.equal(written?.length, now?.length);
});

test('docs/api.md shows every operation of the API but those for monitors', () => {
  const { paths } = JSON.parse(readFileSync('openapi.json', 'utf8')) as { paths: Record<string, object> };
  const named = page.replaceAll(/\$(?:ALAN|ADA)_ID/g, '{id}').replaceAll('/roles/support', '/roles/{name}');
  const missing = Object.keys(paths).filter((path) => !new RegExp(`${RegExp.escape(path)}(?![\\w/-])`).test(named));
  assert.deepEqual(missing, ['/health/live', '/metrics']);
});
