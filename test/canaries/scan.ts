import { closeSync, globSync, openSync, readFileSync, readSync } from 'node:fs';
import { basename, join } from 'node:path';
import { createVault, type Finding, type Vault } from './vault.ts';

/** What was found in a recording, and how much there was to look at. */
export type Scan = { findings: Finding[]; secrets: number; bytes: number };

const defaultChunkBytes = 16 * 1024 * 1024;
// Longer than any secret in any spelling.
const overlapCharacters = 8 * 1024;
// A password that a test made up to be weak turns up everywhere.
const minDistinctCharacters = 8;

/** Looks for every secret of a recording in everything that was recorded. */
export function scanRecording(folder: string, chunkBytes = defaultChunkBytes): Scan {
  const vault = readSecrets(folder);
  const scan: Scan = { findings: [], secrets: vault.size(), bytes: 0 };
  for (const file of globSync('*', { cwd: folder }).sort()) {
    if (file.endsWith('.secrets')) continue;
    const search = file.endsWith('.sealed') ? vault.searchSealed : vault.search;
    for (const { text, at } of readChunks(join(folder, file), chunkBytes)) {
      scan.bytes += text.length;
      const found = search(basename(file), text);
      scan.findings.push(...found.map((finding) => ({ ...finding, at: finding.at + at })));
    }
  }
  return scan;
}

function readSecrets(folder: string): Vault {
  const vault = createVault();
  for (const file of globSync('*.secrets', { cwd: folder })) {
    for (const line of readFileSync(join(folder, file), 'utf8').split('\n')) {
      if (line === '') continue;
      const { kind, isText, base64 } = JSON.parse(line) as { kind: string; isText: boolean; base64: string };
      const bytes = Buffer.from(base64, 'base64');
      if (isRandom(kind, bytes)) vault.note(kind, isText ? bytes.toString() : bytes);
    }
  }
  return vault;
}

function isRandom(kind: string, bytes: Buffer): boolean {
  // Made from an address, to be refused for that. The address itself may be where accounts are.
  if (/password/.test(kind) && /@|user-[0-9a-f]{12}/.test(bytes.toString())) return false;
  return kind === 'code' || (bytes.length >= 16 && new Set(bytes).size >= minDistinctCharacters);
}

function* readChunks(path: string, chunkBytes: number): Generator<{ text: string; at: number }> {
  const file = openSync(path, 'r');
  try {
    const buffer = Buffer.alloc(chunkBytes);
    let tail = '';
    let at = 0;
    for (;;) {
      const length = readSync(file, buffer);
      if (length === 0) return;
      // Byte by byte, so that places are places in the file whatever is in it.
      const text = tail + buffer.toString('latin1', 0, length);
      yield { text, at };
      tail = text.slice(-overlapCharacters);
      at += text.length - tail.length;
    }
  } finally {
    closeSync(file);
  }
}
