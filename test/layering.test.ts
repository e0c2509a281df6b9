import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { before, describe, test } from 'node:test';
import { rooms } from './layering-rooms.ts';

// The directions of import in the house are rules of biome.json. A rule that matches nothing passes every
// check, so here files that break each one are linted under a copy of the same configuration.

// However an import is written, it is one.
const spellings: Record<string, string> = {
  'a type': "import type { FastifyRequest } from 'fastify';",
  'a side effect': "import 'fastify';",
  'a re-export': "export { fastify } from 'fastify';",
  'a dynamic import': "const { fastify } = await import('fastify');",
};

const spellingsFile = 'src/password/flow.ts';
const cycle: Record<string, string> = {
  'src/cycle/first.ts': "import { second } from './second.ts';\n\nexport const first = () => second;\n",
  'src/cycle/second.ts': "import { first } from './first.ts';\n\nexport const second = () => first;\n",
  'src/cycle/outside.ts': "import { first } from './first.ts';\n\nexport const outside = () => first;\n",
};

type Diagnostic = { severity: string; category: string; location: { path: string; start: { line: number } } };

describe('the layers of the house', () => {
  let diagnostics: Diagnostic[] = [];

  before(() => {
    const files: Record<string, string> = { ...cycle, [spellingsFile]: Object.values(spellings).join('\n') };
    for (const { file, forbidden, allowed } of rooms) files[file] = importLines([...forbidden, ...allowed]);
    diagnostics = lint(files);
  });

  const errorsAt = (rule: string, file: string, line?: number) =>
    diagnostics.filter(({ severity, category, location }) => {
      const isHere = location.path === file && (line === undefined || location.start.line === line);
      return isHere && severity === 'error' && category.endsWith(`/${rule}`);
    });

  for (const { name, file, forbidden, allowed } of rooms) {
    const sources = [...forbidden, ...allowed];
    const isRefused = (source: string) => {
      return errorsAt('noRestrictedImports', file, sources.indexOf(source) + 1).length > 0;
    };

    test(`${name} may not import what is above or beside it`, () => {
      assert.deepEqual(forbidden.filter(isRefused), forbidden);
    });

    test(`${name} may import what is below it`, () => {
      assert.deepEqual(allowed.filter(isRefused), []);
    });
  }

  test('a forbidden import is refused however it is written', () => {
    const refused = Object.keys(spellings).filter(
      (_, index) => errorsAt('noRestrictedImports', spellingsFile, index + 1).length > 0,
    );
    assert.deepEqual(refused, Object.keys(spellings));
  });

  test('two files that import each other are refused, and a third that imports them is not', () => {
    const inCycle = Object.keys(cycle).filter((file) => errorsAt('noImportCycles', file).length > 0);
    assert.deepEqual(inCycle, ['src/cycle/first.ts', 'src/cycle/second.ts']);
  });
});

function importLines(sources: readonly string[]): string {
  return sources.map((source, index) => `import { name${index} } from '${source}';`).join('\n');
}

/** Lints files in a project of their own under our configuration. */
function lint(files: Readonly<Record<string, string>>): Diagnostic[] {
  const root = join(import.meta.dirname, '..');
  const project = mkdtempSync(join(tmpdir(), 'latchkey-layers-'));
  try {
    copyFileSync(join(root, 'biome.json'), join(project, 'biome.json'));
    copyFileSync(join(root, '.gitignore'), join(project, '.gitignore'));
    for (const [path, source] of Object.entries(files)) {
      mkdirSync(dirname(join(project, path)), { recursive: true });
      writeFileSync(join(project, path), source);
    }
    const biome = join(root, 'node_modules/.bin/biome');
    const args = ['lint', '--reporter=json', '--max-diagnostics=none', '.'];
    const { stdout, stderr } = spawnSync(biome, args, { cwd: project, encoding: 'utf8' });
    assert.match(stdout, /^\{/, `Biome gave no report: ${stderr}`);
    return JSON.parse(stdout).diagnostics;
  } finally {
    rmSync(project, { recursive: true, force: true });
  }
}
