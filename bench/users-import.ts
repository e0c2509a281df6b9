import { appendFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startCommand } from '../test/copying.ts';
import { newSecret } from '../test/passwords.ts';
import { inScratch } from '../test/scratch.ts';
import { backends } from '../test/system.ts';

/**
 * `npm run bench:users-import`: how fast users are imported and exported, and in how much memory, by the real command on
 * an empty database of each kind.
 */
const { values } = parseArgs({ options: { users: { type: 'string', default: '100000' } } });
const users = Number(values.users);
const linesPerWrite = 10_000;
// What passlib writes, at a cost that says nothing here: an import checks no password.
const hash = '$2b$12$NW4l.WU7oa.qUTnTSuX3b.qdZ0sjOTop8qCSwVaQ/iB20mBSKXGDm';

const formats = {
  ndjson: (index: number) =>
    `${JSON.stringify({ email: emailOf(index), name: `User ${index}`, metadata: { plan: 'free' }, password_hash: hash })}\n`,
  csv: (index: number) => `${emailOf(index)},User ${index},"{""plan"":""free""}",${hash}\n`,
};

function emailOf(index: number): string {
  return `user-${index}@example.com`;
}

function writeFile(folder: string, format: keyof typeof formats): string {
  const path = join(folder, `users.${format}`);
  writeFileSync(path, format === 'csv' ? 'email,name,metadata,password_hash\n' : '');
  for (let from = 0; from < users; from += linesPerWrite) {
    const indices = Array.from({ length: Math.min(linesPerWrite, users - from) }, (_, offset) => from + offset);
    appendFileSync(path, indices.map(formats[format]).join(''));
  }
  return path;
}

async function measure(cwd: string, environment: Record<string, string>, ...args: string[]) {
  const startedAtMs = performance.now();
  const command = startCommand(['users', ...args], { cwd, ...environment });
  const { code, stderr, stdout, peakMebibytes = 0 } = await command.ended;
  const seconds = (performance.now() - startedAtMs) / 1000;
  if (code !== 0) throw new Error(`${args.join(' ')}: ${stderr || stdout}`);
  const rate = Math.round(users / seconds).toLocaleString('en');
  const what = `${args[0]} ${args.includes('--dry-run') ? '(rehearsal) ' : ''}${args[1]?.split('.').at(-1) ?? ''}`;
  console.log(
    `  ${what.padEnd(28)} ${seconds.toFixed(1).padStart(6)} s ${rate.padStart(8)} a second ${Math.round(peakMebibytes)} MiB`,
  );
}

console.log(`${users.toLocaleString('en')} users, ${cpus().length} cores, Node ${process.version}`);
for (const backend of backends) {
  console.log(backend);
  for (const format of ['ndjson', 'csv'] as const) {
    await inScratch(async (scratch) => {
      const folder = scratch.DATA_DIR;
      const environment = { ...scratch, SECRET_KEY: newSecret() };
      const path = writeFile(folder, format);
      await measure(folder, environment, 'import', path, '--addresses-are-proved', '--dry-run');
      await measure(folder, environment, 'import', path, '--addresses-are-proved');
      await measure(folder, environment, 'import', path, '--addresses-are-proved');
      await measure(folder, environment, 'export', '--output', join(folder, `export.${format}`), '--with-hashes');
    }, backend);
  }
}
