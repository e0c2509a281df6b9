import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { findFreePort } from '../ports.ts';
import { startProgram } from '../program.ts';
import { inScratch } from '../scratch.ts';
import { until } from '../until.ts';
import { readBlocks } from './blocks.ts';
import { makeServiceFolder, paste } from './paste.ts';

const page = 'docs/quick-start.md';
const root = join(import.meta.dirname, '../..');

test('the quick start ends with an API that greets its user and nobody else', () =>
  inScratch(async (environment) => {
    const folder = environment.DATA_DIR;
    const [start] = readBlocks(page, '1. Start the service', 'sh');
    assert.equal(start, 'npm ci && npm start\n');
    const [register] = readBlocks(page, '2. Register the first user', 'sh');
    const [, ask] = readBlocks(page, '3. Write an API that only your users can call', 'sh');
    const [api] = readBlocks(page, '3. Write an API that only your users can call', 'js');
    const [promote, askAgain] = readBlocks(page, '4. Give somebody a permission of yours', 'sh');
    assert.ok(register && ask && api && promote && askAgain);

    const [port, apiPort] = [await findFreePort(), await findFreePort()];
    const program = await startProgram({ ...environment, HOST: 'localhost', PORT: String(port), RATE_LIMITS: 'on' });
    // In place of "npm install jose", which is the one step that needs a network.
    mkdirSync(join(folder, 'my-api'));
    symlinkSync(join(root, 'node_modules'), join(folder, 'my-api/node_modules'));
    makeServiceFolder(folder);
    writeFileSync(join(folder, 'my-api/api.mjs'), api);
    const server = spawn(process.execPath, ['api.mjs'], {
      cwd: join(folder, 'my-api'),
      env: { ISSUER: `http://localhost:${port}`, PORT: String(apiPort) },
      stdio: 'inherit',
    });
    try {
      await until(async () => (await fetch(`http://localhost:${apiPort}`).catch(() => undefined))?.status === 401);
      const script = [register, ask, promote, askAgain]
        .join('\n')
        .replace(':8000', `:${port}`)
        .replace(':3000', `:${apiPort}`);
      const stdout = await paste(script, folder, environment);
      const [sent = '', token, ...greetings] = stdout.trim().split('\n');
      assert.deepEqual(JSON.parse(sent), { expires_in: 300, resend_after: 60 });
      assert.match(token ?? '', /^eyJ/);
      const { sub } = JSON.parse(Buffer.from(token?.split('.')[1] ?? '', 'base64url').toString());
      assert.deepEqual(greetings.slice(0, 2), ['Who are you?', `Hello, ${sub}. You may: be here.`]);
      assert.match(greetings[2] ?? '', / is an administrator/);
      assert.match(greetings[3] ?? '', new RegExp(`^Hello, ${sub}\\. You may: .*users:write`));
      assert.equal(greetings.length, 4);
    } finally {
      server.kill('SIGKILL');
      await program.stop('SIGTERM');
    }
  }));
