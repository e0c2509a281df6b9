import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { scanRecording } from './scan.ts';

/**
 * `npm run test:canaries`: runs the tests, or those that are named, with every log at `trace`, and then looks for every
 * secret that they sent, got or configured in all logs, replies, metrics, databases and Redis keys. With
 * `CANARIES_KEEP=1` what was recorded is left to look at.
 */
const folder = mkdtempSync(join(tmpdir(), 'latchkey-canaries-'));
const runner = join(import.meta.dirname, '../run.ts');
const { status } = spawnSync(process.execPath, [runner, ...process.argv.slice(2)], {
  stdio: 'inherit',
  env: { ...process.env, CANARIES: folder },
});
const { findings, secrets, bytes } = scanRecording(folder);
console.log(`canaries: ${secrets} secrets looked for in ${(bytes / 1e6).toFixed(1)} MB`);
for (const { kind, place, at } of findings.slice(0, 50)) {
  console.log(`canaries: ${kind} in ${place} at ${at}: ${excerpt(place, at)}`);
}
if (secrets === 0 || bytes === 0) console.log('canaries: nothing was recorded');
const isClean = findings.length === 0 && secrets > 0 && bytes > 0;
if (process.env.CANARIES_KEEP === '1') console.log(`canaries: the recording is in ${folder}`);
else rmSync(folder, { recursive: true, force: true });
process.exitCode = isClean ? (status ?? 1) : 1;

function excerpt(place: string, at: number): string {
  const text = readFileSync(join(folder, place)).toString('latin1', Math.max(0, at - 120), at + 80);
  return JSON.stringify(text);
}
