import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const root = join(import.meta.dirname, '../..');
const compiler = join(root, 'node_modules/typescript/bin/tsc');

/** Compiles the client as its package is, into a folder of its own. */
export async function buildClient(): Promise<{ folder: string; remove(): void }> {
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-client-'));
  const args = [compiler, '--project', join(root, 'client'), '--noEmit', 'false', '--outDir', folder];
  await promisify(execFile)(process.execPath, args);
  return { folder, remove: () => rmSync(folder, { recursive: true, force: true }) };
}
