import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { before, describe, test } from 'node:test';

// The directions of import in the house are rules of biome.json. A rule that matches nothing passes every
// check, so here files that break each one are linted under a copy of the same configuration.

type Room = { name: string; file: string; forbidden: string[]; allowed: string[] };

const rooms: Room[] = [
  {
    name: 'a flow',
    file: 'src/login/flow.ts',
    forbidden: [
      'node:sqlite',
      'kysely/helpers/postgres',
      '../main.ts',
      '../cli/main.ts',
      '../sessions/./store.ts',
      '../../src/sessions/store.ts',
      'fastify',
      '@fastify/cors',
      'kysely',
      'pg',
      '../sessions/store.ts',
      '../mail/store.ts',
      './routes.ts',
      './schemas.ts',
      '../sessions/routes.ts',
      '../sessions/schemas.ts',
      '../http/problem.ts',
      '../app.ts',
    ],
    allowed: [
      './store.ts',
      '../sessions/flow.ts',
      '../audit/flow.ts',
      '../crypto/secrets.ts',
      '../db/database.ts',
      '../deps.ts',
      '../ephemeral/store.ts',
      '../errors.ts',
      '../mail/outbox.ts',
    ],
  },
  {
    name: 'a store',
    file: 'src/login/store.ts',
    forbidden: [
      '../mail/outbox.ts',
      '../ephemeral/store.ts',
      '../ephemeral/redis.ts',
      '../config.ts',
      '../main.ts',
      '../sessions/reuse.ts',
      './flow.ts',
      './routes.ts',
      './schemas.ts',
      '../sessions/flow.ts',
      '../sessions/store.ts',
      '../audit/store.ts',
      '../http/problem.ts',
      '../deps.ts',
      '../app.ts',
      'fastify',
      '@fastify/cors',
    ],
    allowed: ['../errors.ts', '../clock.ts', 'kysely', '../db/schema.ts', '../crypto/signing-key.ts'],
  },
  {
    name: 'the routes of a feature',
    file: 'src/login/routes.ts',
    forbidden: [
      'node:sqlite',
      '../ephemeral/redis.ts',
      '../main.ts',
      './store.ts',
      '../sessions/store.ts',
      '../ephemeral/store.ts',
      '../db/database.ts',
      '../db/schema.ts',
      'kysely',
      'pg',
      '../sessions/routes.ts',
      '../app.ts',
    ],
    allowed: ['fastify', './flow.ts', './schemas.ts', '../sessions/schemas.ts', '../http/schemas.ts', '../deps.ts'],
  },
  {
    name: 'the schemas of a feature',
    file: 'src/login/schemas.ts',
    forbidden: ['./routes.ts', './store.ts', '../db/schema.ts', 'kysely', 'pg'],
    allowed: ['typebox', './flow.ts', '../sessions/schemas.ts', '../http/schemas.ts', '../clock.ts'],
  },
  {
    name: 'crypto/',
    file: 'src/crypto/secrets.ts',
    forbidden: [
      '../clock.ts',
      '../errors.ts',
      '../config.ts',
      '../login/flow.ts',
      '../db/schema.ts',
      'fastify',
      'kysely',
    ],
    allowed: ['node:crypto', 'jose', './ids.ts'],
  },
  {
    name: 'clock.ts',
    file: 'src/clock.ts',
    forbidden: ['fastify', 'kysely', './errors.ts', './crypto/ids.ts', './login/flow.ts'],
    allowed: ['node:timers'],
  },
  {
    name: 'errors.ts',
    file: 'src/errors.ts',
    forbidden: ['fastify', 'kysely', './clock.ts', './http/problem.ts', './login/flow.ts'],
    allowed: ['node:http'],
  },
  {
    name: 'db/',
    file: 'src/db/database.ts',
    forbidden: [
      '../login/schemas.ts',
      '../mail/outbox.ts',
      '../ephemeral/redis.ts',
      '../config.ts',
      '../main.ts',
      '../login/flow.ts',
      '../login/store.ts',
      '../login/routes.ts',
      '../http/problem.ts',
      '../deps.ts',
      '../app.ts',
      'fastify',
    ],
    allowed: ['kysely', 'pg', 'node:sqlite', './migrate.ts'],
  },
  {
    name: 'a migration',
    file: 'src/db/migrations/0001-initial.ts',
    forbidden: ['../../mail/outbox.ts', '../../config.ts', '../../login/flow.ts', '../../login/store.ts', 'fastify'],
    allowed: ['kysely', '../migrate.ts'],
  },
  {
    name: 'ephemeral/',
    file: 'src/ephemeral/redis.ts',
    forbidden: [
      '../config.ts',
      '../main.ts',
      '../login/flow.ts',
      '../mail/outbox.ts',
      '../db/schema.ts',
      '../deps.ts',
      '../app.ts',
      'kysely',
      'fastify',
    ],
    allowed: ['@redis/client', './store.ts', '../errors.ts'],
  },
  {
    name: 'the interface of ephemeral/, which is no store of a feature,',
    file: 'src/ephemeral/store.ts',
    forbidden: ['../login/flow.ts', '../db/schema.ts', 'kysely'],
    allowed: ['../errors.ts'],
  },
  {
    name: 'http/',
    file: 'src/http/problem.ts',
    forbidden: [
      '../db/database.ts',
      '../db/schema.ts',
      '../main.ts',
      '../login/store.ts',
      '../login/routes.ts',
      '../app.ts',
      'kysely',
      'pg',
    ],
    allowed: ['fastify', '@fastify/swagger', '../sessions/flow.ts', '../errors.ts', '../deps.ts', '../db/failures.ts'],
  },
  {
    name: 'mail/',
    file: 'src/mail/outbox.ts',
    forbidden: [
      '../login/schemas.ts',
      '../app.ts',
      '../login/flow.ts',
      '../login/store.ts',
      '../login/routes.ts',
      '../http/page.ts',
      '../deps.ts',
      'fastify',
      'kysely',
    ],
    allowed: ['nodemailer', './store.ts', './messages.ts', '../crypto/secrets.ts', '../clock.ts'],
  },
  {
    name: 'any other file of a feature, which is part of its flow,',
    file: 'src/audit/events.ts',
    forbidden: [
      '../login/store.ts',
      './routes.ts',
      './schemas.ts',
      '../http/page.ts',
      '../app.ts',
      'fastify',
      'kysely',
      'pg',
    ],
    allowed: ['./store.ts', '../sessions/flow.ts', '../crypto/ids.ts', '../db/schema.ts', '../clock.ts'],
  },
  {
    name: 'a language of mail/',
    file: 'src/mail/languages/en.ts',
    forbidden: ['../../login/flow.ts', '../../login/store.ts', '../../http/page.ts', '../../deps.ts', 'kysely'],
    allowed: ['../messages.ts', '../layout.ts'],
  },
  {
    name: 'the composition root',
    file: 'src/deps.ts',
    forbidden: [
      'kysely',
      'pg',
      'node:sqlite',
      'fastify',
      './login/store.ts',
      './login/routes.ts',
      './http/problem.ts',
      './app.ts',
      './main.ts',
    ],
    allowed: ['./db/database.ts', './keys/flow.ts', './ephemeral/store.ts', './mail/outbox.ts', './config.ts'],
  },
  {
    name: 'app.ts',
    file: 'src/app.ts',
    forbidden: ['kysely', 'pg', './login/store.ts', './login/flow.ts', './db/database.ts', './main.ts'],
    allowed: [
      'fastify',
      '@fastify/helmet',
      './login/routes.ts',
      './sessions/schemas.ts',
      './http/problem.ts',
      './deps.ts',
    ],
  },
  {
    name: 'main.ts',
    file: 'src/main.ts',
    forbidden: ['kysely', 'fastify', './login/store.ts', './login/routes.ts', './db/database.ts'],
    allowed: ['./app.ts', './deps.ts', './config.ts', './log.ts', './keys/flow.ts'],
  },
  {
    name: 'a command',
    file: 'src/cli/main.ts',
    forbidden: ['kysely', 'fastify', '../login/store.ts', '../login/routes.ts', '../db/database.ts'],
    allowed: ['../deps.ts', '../config.ts', '../users/flow.ts', './users.ts'],
  },
  {
    name: 'config.ts',
    file: 'src/config.ts',
    forbidden: ['kysely', 'fastify', './login/flow.ts', './login/store.ts', './deps.ts'],
    allowed: ['./config-schema.ts', './crypto/secrets.ts'],
  },
  {
    name: 'log.ts',
    file: 'src/log.ts',
    forbidden: ['kysely', 'fastify', './login/flow.ts', './login/store.ts', './deps.ts'],
    allowed: ['pino'],
  },
];

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
