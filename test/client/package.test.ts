import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { errorCatalogue } from '../../src/errors.ts';
import { goodPassword, newEmail } from '../accounts.ts';
import { startProgram } from '../program.ts';

const run = promisify(execFile);
const root = join(import.meta.dirname, '../..');
const compiler = join(root, 'node_modules/typescript/bin/tsc');
const largestGzippedBytes = 9 * 1024;

/** What the README takes as given: who signs up, and how the code gets from the mail to the program. */
const prelude = `
const [, , email = '', password = '', notesUrl = ''] = process.argv;
async function askForCode(): Promise<string> {
  const mailbox = await fetch('http://localhost:8000/dev/mailbox', { headers: { accept: 'application/json' } });
  const { items } = (await mailbox.json()) as { items: { to: string; subject: string }[] };
  return items.find(({ to }) => to === email)?.subject.slice(0, 6) ?? '';
}
`;

/** A page that is compiled for browsers alone, and what its types must refuse. */
const browserPage = `
import { createClient, type ErrorCode, isLatchkeyError, LatchkeyError, localStorageTokens } from '@latchkey/client';
const auth = createClient({ baseUrl: '/', storage: localStorageTokens(), fetch: window.fetch.bind(window) });
export const role: Promise<string[]> = auth.getMe({ signal: new AbortController().signal }).then((me) => me.roles);
export const code: ErrorCode = 'invalid_code';
export const say = (error: unknown) => (isLatchkeyError(error) ? error.problem?.errors?.[0]?.path : undefined);
export const made = new LatchkeyError('timeout', 'late');
// @ts-expect-error there is no such operation
auth.request('GET /nothing');
// @ts-expect-error the path has a parameter
auth.request('GET /users/{id}');
// @ts-expect-error what changes who is signed in has a function of its own
auth.request('POST /auth/login', { body: { email: 'a', password: 'b' } });
// @ts-expect-error the body has no such field
auth.logIn({ email: 'a', password: 'b', role: 'admin' });
// @ts-expect-error there is no such purpose
auth.sendCode({ email: 'a', purpose: 'anything' });
// @ts-expect-error there is no such code
export const wrong: ErrorCode = 'nothing';
`;

describe('the package of the client', () => {
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-package-'));
  const installed = join(folder, 'node_modules/@latchkey/client');
  const inFolder = (name: string) => join(folder, name);

  before(async () => {
    const npm = (args: string[], cwd: string) => run('npm', args, { cwd });
    await npm(['pack', '--pack-destination', folder], copyClient(folder));
    const archive = readdirSync(folder).find((name) => name.endsWith('.tgz'));
    assert.ok(archive);
    writeFileSync(inFolder('package.json'), '{ "name": "consumer", "private": true, "type": "module" }');
    await npm(['install', '--offline', '--ignore-scripts', `./${archive}`], folder);
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  test('holds what is built, its licence and its README, and no source', () => {
    const built = readdirSync(join(root, 'client/src')).flatMap((name) => {
      const stem = name.replace(/\.ts$/, '');
      return [`${stem}.d.ts`, `${stem}.js`];
    });
    assert.deepEqual(readdirSync(installed).sort(), ['LICENSE', 'README.md', 'dist', 'package.json']);
    assert.deepEqual(readdirSync(join(installed, 'dist')).sort(), built.sort());
  });

  test('has no dependency, and the version of the service', () => {
    const manifest = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8'));
    const service = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    const dependencies = Object.keys(manifest).filter((name) => /dependencies/i.test(name));
    assert.deepEqual(dependencies, []);
    assert.equal(manifest.version, service.version);
    assert.equal(readFileSync(join(installed, 'LICENSE'), 'utf8'), readFileSync(join(root, 'LICENSE'), 'utf8'));
  });

  test(`is at most ${largestGzippedBytes} bytes of JavaScript, gzipped`, () => {
    const scripts = readdirSync(join(installed, 'dist')).filter((name) => name.endsWith('.js'));
    const text = scripts.map((name) => readFileSync(join(installed, 'dist', name), 'utf8')).join('');
    const { length } = gzipSync(text, { level: 9 });
    assert.ok(length <= largestGzippedBytes, `${length} bytes`);
  });

  test('has every code of the catalogue in its types, and no other', () => {
    const types = readFileSync(join(installed, 'dist/api-types.d.ts'), 'utf8');
    const union = /type ErrorCode = ([^;]+);/.exec(types)?.[1] ?? '';
    const codes = [...union.matchAll(/'(\w+)'/g)].map(([, code]) => code);
    assert.deepEqual(codes, Object.keys(errorCatalogue));
  });

  test('is imported by plain Node.js', async () => {
    const script = "import * as all from '@latchkey/client'; console.log(Object.keys(all).join())";
    const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', script], { cwd: folder });
    assert.equal(stdout.trim(), 'LatchkeyError,createClient,isLatchkeyError,localStorageTokens,memoryTokens');
  });

  test('is checked by a strict compiler with the types of a browser alone, and refuses what is wrong', async () => {
    await check('browser', browserPage, { lib: ['es2022', 'dom'], types: [], skipLibCheck: false });
  });

  test('the code of the pages for browsers compiles with the types of a browser alone', async () => {
    const types = { lib: ['es2022', 'dom'], types: [], skipLibCheck: false };
    await check('pages', readBlocks('docs/browser-applications.md'), types);
    const given = "import { createClient } from '@latchkey/client';\n";
    const example = `${given}const auth = createClient({ baseUrl: '/' });\nconst userId = '';\n`;
    await check('example', example + readBlocks('examples/README.md'), types);
  });

  test('the README is one program, which compiles with the types of Node.js alone and runs', async (t) => {
    const data = inFolder('data');
    mkdirSync(data);
    const program = await startProgram({ DATA_DIR: data, HOST: 'localhost' });
    t.after(() => program.stop('SIGKILL'));
    const service = `http://localhost:${program.port}`;
    const text = (prelude + readBlocks('client/README.md')).replaceAll('http://localhost:8000', service);
    const types = { typeRoots: [join(root, 'node_modules/@types')], types: ['node'] };
    await check('readme', text, { lib: ['es2024'], ...types, skipLibCheck: true });
    const args = ['readme.ts', newEmail(), goodPassword, `${service}/health/live`];
    const { stdout } = await run(process.execPath, args, { cwd: folder });
    const lines = stdout.trim().split('\n');
    assert.equal(lines[0], 'Welcome, Ada');
    assert.equal(lines[1], 'That is not right.');
    assert.match(lines[2] ?? '', /^user-\w+@example\.com$/);
    assert.equal(lines.at(-1), 'Signed out: logout');
  });

  /** Compiles a module of the consumer as strictly as the compiler can. */
  async function check(name: string, text: string, options: Record<string, unknown>): Promise<void> {
    writeFileSync(inFolder(`${name}.ts`), text);
    const compilerOptions = {
      target: 'es2022',
      module: 'nodenext',
      strict: true,
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      noPropertyAccessFromIndexSignature: true,
      noEmit: true,
      ...options,
    };
    const project = inFolder(`tsconfig.${name}.json`);
    writeFileSync(project, JSON.stringify({ compilerOptions, files: [`${name}.ts`] }));
    const { stdout } = await run(process.execPath, [compiler, '--project', project], { cwd: folder }).catch(
      (error: { stdout: string }) => error,
    );
    assert.equal(stdout, '');
  }
});

/** Packing builds, so it is done beside the repository, where nobody else reads what is built meanwhile. */
function copyClient(folder: string): string {
  const project = join(folder, 'project');
  const isSource = (path: string) => !path.endsWith('/dist');
  cpSync(join(root, 'client'), join(project, 'client'), { recursive: true, filter: isSource });
  cpSync(join(root, 'tsconfig.json'), join(project, 'tsconfig.json'));
  symlinkSync(join(root, 'node_modules'), join(project, 'node_modules'));
  return join(project, 'client');
}

/** The TypeScript of a page, from top to bottom. */
function readBlocks(path: string): string {
  const page = readFileSync(join(root, path), 'utf8');
  return [...page.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code).join('\n');
}
