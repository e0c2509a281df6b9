import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import packageJson from '../package.json' with { type: 'json' };
import { version } from '../src/version.ts';
import { newSecret } from './config.ts';
import { findFreePort } from './ports.ts';
import { until } from './until.ts';

const root = join(import.meta.dirname, '..');
const name = `latchkey-${packageJson.version}`;

describe('the archive of a release', () => {
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-archive-'));
  const archive = join(folder, `${name}.tgz`);
  const unpacked = join(folder, name);
  let files: string[];

  before(() => {
    execFileSync(process.execPath, ['scripts/make-archive.ts', folder], { cwd: root, stdio: 'pipe' });
    const listing = execFileSync('tar', ['-tzf', archive], { encoding: 'utf8' });
    files = listing
      .trim()
      .split('\n')
      .map((path) => path.slice(name.length + 1));
    execFileSync('tar', ['-xzf', archive, '-C', folder]);
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  test('holds the program, its lock file and its documents, and no test, data or secret', () => {
    for (const path of [
      'src/start.js',
      'src/cli/start.js',
      'package.json',
      'package-lock.json',
      'LICENSE',
      'compose.yaml',
    ])
      assert.ok(files.includes(path), path);
    const forbidden =
      /\.test\.ts$|^(?:test|bench|scripts|node_modules|data|\.git|\.ci)\/|(?:^|\/)\.env$|\.(?:db|pem|key|log)$/;
    assert.deepEqual(
      files.filter((path) => forbidden.test(path)),
      [],
    );
  });

  test('holds every file that a file of it imports', () => {
    const missing = files
      .filter((path) => path.endsWith('.ts'))
      .flatMap((path) => {
        const imports = readFileSync(join(unpacked, path), 'utf8').matchAll(/(?:from|import\()\s*'(\.[^']+)'/g);
        return [...imports]
          .map(([, specifier = '']) => join(path, '..', specifier))
          .filter((target) => !files.includes(target));
      });
    assert.deepEqual(missing, []);
  });

  test('is the same to the byte when it is made again', () => {
    const first = readFileSync(archive);
    execFileSync(process.execPath, ['scripts/make-archive.ts', folder], { cwd: root, stdio: 'pipe' });
    assert.ok(first.equals(readFileSync(archive)));
  });

  test('installs without what is for development, and starts in production', async (t) => {
    execFileSync('npm', ['ci', '--omit=dev', '--ignore-scripts', '--prefer-offline'], { cwd: unpacked, stdio: 'pipe' });
    const port = await findFreePort();
    const child = spawn(process.execPath, ['src/start.js'], {
      cwd: unpacked,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        NODE_ENV: 'production',
        HOST: '127.0.0.1',
        PORT: `${port}`,
        DATA_DIR: join(folder, 'data'),
        PUBLIC_URL: 'https://auth.example.com',
        SECRET_KEY: newSecret(),
        SMTP_URL: 'smtp://localhost:25',
        MAIL_FROM: 'no-reply@example.com',
      },
    });
    t.after(() => child.kill('SIGKILL'));
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => {
        output += chunk;
      });
    const ended = once(child, 'exit');
    await until(async () => {
      assert.equal(child.exitCode, null, output);
      return (await fetch(`http://127.0.0.1:${port}/health/ready`).catch(() => undefined))?.status === 200;
    }, 20_000);
    child.kill('SIGTERM');
    assert.deepEqual(await ended, [0, null]);
  });
});

test('the version is one, in the package, in its lock file and in the program', () => {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
  assert.deepEqual([version, lock.version, lock.packages[''].version], Array(3).fill(packageJson.version));
});

const hasSystemd = spawnSync('systemd-analyze', ['--version']).status === 0;

test('systemd finds no fault in the unit', { skip: !hasSystemd && 'systemd-analyze is not installed' }, () => {
  const unit = join(root, 'deploy/systemd/latchkey.service');
  const { status, stderr } = spawnSync('systemd-analyze', ['verify', unit], { encoding: 'utf8' });
  // It looks for the program too, which lies elsewhere where Node.js is not a package of the system.
  const faults = stderr.split('\n').filter((line) => line !== '' && !line.includes('/usr/bin/node is not executable'));
  assert.deepEqual(faults, []);
  if (stderr === '') assert.equal(status, 0);
});
