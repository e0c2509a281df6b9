import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { type Program, register, startProgram } from './program.ts';
import { inScratch } from './scratch.ts';
import { backends } from './system.ts';

const root = join(import.meta.dirname, '..');
const userId = process.getuid?.() ?? 0;
const nobody = 65_534;

/** Starts the program so that it writes down what it loads. */
async function startListed(environment: Record<string, string> & { DATA_DIR: string }) {
  const list = join(environment.DATA_DIR, 'loaded-files');
  const hook = pathToFileURL(join(import.meta.dirname, 'fixtures/list-loaded-files.js')).href;
  const program = await startProgram({ ...environment, LOADED_FILES: list, NODE_OPTIONS: `--import=${hook}` });
  const hasLoaded = (name: string) => readFileSync(list, 'utf8').includes(`/node_modules/${name}/`);
  return { program, hasLoaded };
}

async function isFound(program: Program, path: string): Promise<boolean> {
  return (await fetch(program.origin + path)).status === 200;
}

describe('what a start loads', () => {
  test('is nothing of what the installation does not use, until it is used', () =>
    inScratch(async (scratch) => {
      const { program, hasLoaded } = await startListed(scratch);
      try {
        assert.ok(await isFound(program, '/health/ready'));
        assert.ok(hasLoaded('fastify') && hasLoaded('kysely'), 'the list is empty');
        const unused = [
          'pg',
          '@redis/client',
          'nodemailer',
          'pino-pretty',
          'commander',
          'csv-parse',
          'typebox',
          '@node-rs/argon2',
        ];
        assert.deepEqual(unused.filter(hasLoaded), []);
        const later = ['@fastify/swagger-ui', '@fastify/static', '@zxcvbn-ts/language-common'];
        assert.deepEqual(later.filter(hasLoaded), []);

        assert.ok(await isFound(program, '/openapi.json'));
        assert.ok(!hasLoaded('@fastify/swagger-ui'));
        for (const path of ['/docs', '/docs/static/swagger-ui-bundle.js'])
          assert.ok(await isFound(program, path), path);
        assert.ok(hasLoaded('@fastify/swagger-ui'));

        assert.ok(!hasLoaded('@zxcvbn-ts/language-common'));
        const refused = await register(program, 'ada@example.com', 'password1');
        assert.equal(refused.body.code, 'password_rejected');
        assert.ok(hasLoaded('@zxcvbn-ts/language-common'));
        assert.deepEqual(unused.filter(hasLoaded), []);
      } finally {
        await program.stop('SIGTERM');
      }
    }));

  const skip = backends.includes('postgres+redis') ? false : 'there is no PostgreSQL or no Redis here';
  test('is what the configuration names', { skip }, () =>
    inScratch(async (scratch) => {
      const { program, hasLoaded } = await startListed({ ...scratch, SMTP_URL: 'smtp://127.0.0.1:9' });
      try {
        const used = ['pg', '@redis/client', 'nodemailer'];
        assert.deepEqual(used.filter(hasLoaded), used);
      } finally {
        await program.stop('SIGTERM');
      }
    }, 'postgres+redis'),
  );
});

/** What a program says of its compile cache, and the thread that it starts. */
type Seen = { own: string | null; thread: string | null };

const reporter = `
import { getCompileCacheDir } from 'node:module';
import { Worker } from 'node:worker_threads';
const code = "const { getCompileCacheDir } = require('node:module');" +
  "require('node:worker_threads').parentPort.postMessage(getCompileCacheDir() ?? null)";
new Worker(code, { eval: true }).once('message', (thread: string | null) => {
  console.log(JSON.stringify({ own: getCompileCacheDir() ?? null, thread }));
});
`;

describe('the compile cache', () => {
  /** Lays out an installation that says what cache it has in the place of the service. */
  function inInstallation(check: (installation: { folder: string; modules: string; cache: string }) => void): void {
    const folder = realpathSync(mkdtempSync(join(tmpdir(), 'latchkey-installation-')));
    const modules = join(folder, 'node_modules');
    try {
      mkdirSync(join(folder, 'src'));
      for (const file of ['start.js', 'compile-cache.js'])
        copyFileSync(join(root, 'src', file), join(folder, 'src', file));
      writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
      writeFileSync(join(folder, 'src/main.ts'), reporter);
      mkdirSync(modules);
      check({ folder, modules, cache: join(modules, `.latchkey-${userId}`) });
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  function run(folder: string, environment: Record<string, string> = {}): Seen {
    const env = { PATH: process.env.PATH, ...environment };
    const ended = spawnSync(process.execPath, [join(folder, 'src/start.js')], { cwd: tmpdir(), env, encoding: 'utf8' });
    assert.equal(ended.stderr, '');
    assert.equal(ended.status, 0);
    return JSON.parse(ended.stdout);
  }

  test('is made in node_modules for its user alone, is filled, and the threads have it too', () =>
    inInstallation(({ folder, cache }) => {
      const { own, thread } = run(folder);
      assert.ok(own?.startsWith(`${cache}/`), `it is at ${own}`);
      assert.equal(thread, own);
      assert.equal(lstatSync(cache).mode & 0o777, 0o700);
      const [inner = ''] = readdirSync(cache);
      assert.ok(readdirSync(join(cache, inner)).length > 0);
      assert.deepEqual(run(folder), { own, thread });
    }));

  test('is not where a link leads', () =>
    inInstallation(({ folder, cache }) => {
      const elsewhere = join(folder, 'elsewhere');
      mkdirSync(elsewhere, { mode: 0o700 });
      symlinkSync(elsewhere, cache);
      assert.deepEqual(run(folder), { own: null, thread: null });
      assert.deepEqual(readdirSync(elsewhere), []);
    }));

  for (const mode of [0o720, 0o702, 0o777]) {
    test(`is not in a folder that others can write to (${mode.toString(8)})`, () =>
      inInstallation(({ folder, cache }) => {
        mkdirSync(cache);
        chmodSync(cache, mode);
        assert.deepEqual(run(folder), { own: null, thread: null });
        assert.deepEqual(readdirSync(cache), []);
      }));
  }

  const isRoot = userId === 0;
  test('is not in the folder of another user', { skip: isRoot ? false : 'only root can make one' }, () =>
    inInstallation(({ folder, cache }) => {
      mkdirSync(cache, { mode: 0o700 });
      chownSync(cache, nobody, nobody);
      assert.deepEqual(run(folder), { own: null, thread: null });
      assert.deepEqual(readdirSync(cache), []);
    }),
  );

  test('is done without where it cannot be made, and the start goes on', () =>
    inInstallation(({ folder, modules }) => {
      rmSync(modules, { recursive: true });
      assert.deepEqual(run(folder), { own: null, thread: null });
      assert.ok(!existsSync(modules));
      // In which not even root can make a folder.
      symlinkSync('/proc', modules);
      assert.deepEqual(run(folder), { own: null, thread: null });
    }));

  test('is where the operator wants it, or is not at all', () =>
    inInstallation(({ folder, cache }) => {
      const named = join(folder, 'named');
      assert.ok(run(folder, { NODE_COMPILE_CACHE: named }).own?.startsWith(`${named}/`));
      assert.deepEqual(run(folder, { NODE_DISABLE_COMPILE_CACHE: '1' }), { own: null, thread: null });
      assert.ok(!existsSync(cache));
    }));
});
