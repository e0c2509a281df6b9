import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { startProgram } from './program.ts';

const run = promisify(execFile);

test('the walk of the README can be pasted and ends with a login', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-readme-'));
  const program = await startProgram({ DATA_DIR: folder, HOST: 'localhost' });
  t.after(async () => {
    await program.stop('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });

  const walk = readWalk().replace('http://localhost:8000', `http://localhost:${program.port}`);
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
