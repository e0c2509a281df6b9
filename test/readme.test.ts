import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';

const run = promisify(execFile);
const startLimitMs = 20_000;

test('the walk of the README can be pasted and ends with a login', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-readme-'));
  const port = await findFreePort();
  const environment = { ...process.env, NODE_ENV: 'development', PORT: String(port), DATA_DIR: folder };
  const program = spawn(process.execPath, ['src/main.ts'], { env: environment, stdio: 'ignore' });
  t.after(async () => {
    const gone = new Promise((resolve) => program.once('exit', resolve));
    program.kill('SIGKILL');
    await gone;
    rmSync(folder, { recursive: true, force: true });
  });
  await waitUntilReady(port);

  const walk = readWalk().replace('http://localhost:8000', `http://localhost:${port}`);
  const { stdout } = await run('bash', ['-euo', 'pipefail', '-c', walk]);
  const answers = stdout
    .trim()
    .split(/\n|(?<=\})(?=\{)/)
    .map((line) => JSON.parse(line));

  const [sent, me, meAfterRefresh, afterLogout, login] = answers;
  assert.deepEqual(sent, { expires_in: 300, resend_after: 60 });
  assert.match(me.email, /^ada-\d+@example\.com$/);
  assert.deepEqual(meAfterRefresh, me);
  assert.equal(afterLogout.code, 'invalid_token');
  assert.equal(login.user.email, me.email);
  assert.equal(answers.length, 5);
});

function readWalk(): string {
  const readme = readFileSync('README.md', 'utf8');
  const section = readme.split('## From nothing to a refreshed session')[1] ?? '';
  const block = /```sh\n([\s\S]*?)```/.exec(section)?.[1];
  assert.ok(block, 'the README has no walk');
  return block;
}

async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port was given');
  return address.port;
}

async function waitUntilReady(port: number): Promise<void> {
  const giveUpAtMs = Date.now() + startLimitMs;
  while (Date.now() < giveUpAtMs) {
    const reply = await fetch(`http://localhost:${port}/health/ready`).catch(() => undefined);
    if (reply?.ok) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error('the program did not become ready');
}
