import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { validate } from 'dockerfile-utils';
import openApi from '../openapi.json' with { type: 'json' };
import packageJson from '../package.json' with { type: 'json' };
import { loadConfig } from '../src/config.ts';
import { newSecret } from './config.ts';
import { dockerfileText, readStages } from './dockerfile.ts';
import { copyFromContext, listFiles } from './image-build.ts';

const repository = join(import.meta.dirname, '..');

describe('the Dockerfile', () => {
  const stages = readStages(dockerfileText);
  const steps = stages.flatMap((stage) => stage.steps);
  const last = (keyword: string) => stages.at(-1)?.steps.findLast((step) => step.keyword === keyword);

  test('has no fault that the linter knows', () => {
    assert.deepEqual(validate(dockerfileText), []);
    assert.notDeepEqual(validate('FROM node\nCOPPY a b'), []);
  });

  test('begins with one image by its digest, of the Node.js that the tests run on', () => {
    const bases = stages.filter(({ base }) => !stages.some(({ name }) => name === base)).map(({ base }) => base);
    assert.equal(bases.length, 1);
    const { node } = packageJson.devDependencies;
    assert.match(bases[0] ?? '', new RegExp(`^node:${node.replaceAll('.', '\\.')}-[a-z]+-slim@sha256:[0-9a-f]{64}$`));
  });

  test('ends as a user that is given by number and is not root', () => {
    assert.match(last('USER')?.text ?? '', /^[1-9]\d*:[1-9]\d*$/);
  });

  test('starts, and looks at its health, without a shell', () => {
    assert.deepEqual(last('ENTRYPOINT')?.exec, []);
    assert.deepEqual(last('CMD')?.exec, ['node', 'src/start.js']);
    assert.equal(last('HEALTHCHECK')?.exec?.[0], 'node');
  });

  test('installs exactly what the lock file says, and lets no package run a script', () => {
    const installs = steps.filter(({ text }) => /\bnpm\b/.test(text) && text.startsWith('npm'));
    assert.deepEqual(
      installs.map(({ text }) => text),
      ['npm ci --omit=dev --ignore-scripts'],
    );
    assert.ok(steps.every(({ keyword }) => keyword !== 'ADD'));
  });

  test('names no secret, neither as a variable nor as an argument', () => {
    const names = steps.filter(({ keyword }) => keyword === 'ENV' || keyword === 'ARG').map(({ text }) => text);
    assert.deepEqual(
      names.filter((text) => /secret|password|token|key|_url/i.test(text)),
      [],
    );
  });

  test('exposes the port that the service listens on, and asks for a path that the API has', () => {
    const { PORT } = loadConfig({ NODE_ENV: 'test', SECRET_KEY: newSecret() }).environment;
    assert.equal(Number(last('EXPOSE')?.text), PORT);
    const path = /path: '([^']+)'/.exec(readFileSync(join(repository, 'src/healthcheck.ts'), 'utf8'))?.[1];
    assert.ok(path !== undefined && Object.keys(openApi.paths).includes(path));
  });
});

describe('the context of the image', () => {
  test('holds nothing but what .dockerignore names, whatever lies in the folder', () => {
    const folder = mkdtempSync(join(tmpdir(), 'latchkey-context-'));
    const put = (path: string) => {
      mkdirSync(join(folder, 'context', path, '..'), { recursive: true });
      writeFileSync(join(folder, 'context', path), path);
    };
    const wanted = ['package.json', 'package-lock.json', '.npmrc', 'LICENSE', 'src/start.js', 'src/login/flow.ts'];
    const unwanted = [
      '.env',
      '.env.local',
      'data/latchkey.db',
      'data/secret.key',
      '.git/config',
      'node_modules/a/b.js',
    ];
    const tests = ['src/login/login.test.ts', 'test/run.ts', 'bench/run.ts', 'id_ed25519'];
    for (const path of [...wanted, ...unwanted, ...tests]) put(path);
    writeFileSync(join(folder, 'context/.dockerignore'), readFileSync(join(repository, '.dockerignore')));
    copyFromContext(join(folder, 'context'), '.', join(folder, 'seen'));
    assert.deepEqual(listFiles(join(folder, 'seen')), wanted.toSorted());
    rmSync(folder, { recursive: true });
  });
});
