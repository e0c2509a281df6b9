import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findFreePort } from '../test/ports.ts';
import { startProgram } from '../test/program.ts';
import { formatJson } from './format-json.ts';

const root = join(import.meta.dirname, '..');
/** The page whose blocks are run. */
export const apiPagePath = join(root, 'docs/api.md');

// A block, and the reply that an earlier run wrote under it.
const blockPattern = /```sh\n([\s\S]*?)```\n(?:\n```(?:http|text)\n[\s\S]*?```\n)?/g;
const mark = '@@ the end of a block @@';
const pasteLimitMs = 110_000;
// The others are the same on every reply, or differ from run to run.
const shownHeaders = ['content-type', 'location', 'www-authenticate', 'retry-after', 'allow'];

/** Pastes every block of docs/api.md into one shell beside the real program, and returns the page with the replies. */
export async function renderApiPage(): Promise<string> {
  const page = readFileSync(apiPagePath, 'utf8');
  const blocks = [...page.matchAll(blockPattern)].map(([, block = '']) => block);
  const outputs = await pasteBlocks(blocks);
  return page.replace(blockPattern, (_whole, block: string) => {
    const output = outputs.shift() ?? '';
    return `\`\`\`sh\n${block}\`\`\`\n${output === '' ? '' : renderOutput(output)}`;
  });
}

async function pasteBlocks(blocks: readonly string[]): Promise<string[]> {
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-api-page-'));
  const port = await findFreePort();
  const origin = `http://localhost:${port}`;
  const environment = { DATA_DIR: folder, BCRYPT_COST: '4' };
  // With the limits that the reader meets.
  const program = await startProgram({ ...environment, HOST: 'localhost', PORT: String(port), RATE_LIMITS: 'on' });
  // npm looks for its package in the folder that it is run in.
  for (const name of ['package.json', 'src', 'node_modules']) symlinkSync(join(root, name), join(folder, name));
  try {
    const startedAtMs = Date.now();
    const script = blocks.map((block) => `${block}\nprintf '%s\\n' '${mark}'\n`).join('');
    const pasted = script.replace('http://localhost:8000', origin);
    const text = await runBash(pasted, folder, { ...environment, PORT: String(port) });
    const stable = stabilise(text.replaceAll(origin, 'http://localhost:8000'), startedAtMs);
    return stable.split(`${mark}\n`).slice(0, blocks.length);
  } finally {
    await program.stop('SIGTERM');
    rmSync(folder, { recursive: true, force: true });
  }
}

async function runBash(script: string, cwd: string, environment: Record<string, string>): Promise<string> {
  const child = spawn('bash', ['-euo', 'pipefail', '-s'], {
    cwd,
    env: { PATH: `${join(root, 'node_modules/.bin')}:${process.env.PATH}`, HOME: cwd, TMPDIR: cwd, ...environment },
    timeout: pasteLimitMs,
  });
  let [output, complaints] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    output += chunk;
  });
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    complaints += chunk;
  });
  child.stdin.end(script);
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`docs/api.md cannot be pasted:\n${output.slice(-2_000)}\n${complaints}`);
  return output;
}

/** Writes the same for what differs from run to run: equal things stay equal, and different ids different. */
function stabilise(text: string, startedAtMs: number): string {
  const ids = new Map<string, string>();
  const stableId = (id: string): string => {
    const known = ids.get(id) ?? `01978f6e-5c1a-7d2e-9b7a-${String(ids.size + 1).padStart(12, '0')}`;
    ids.set(id, known);
    return known;
  };
  const epochMs = Date.parse('2026-01-01T12:00:00Z');
  const stepMs = 300_000;
  const stableTime = (time: string): string => {
    const offsetMs = Math.round((Date.parse(time) - startedAtMs) / stepMs) * stepMs;
    return new Date(epochMs + offsetMs).toISOString();
  };
  return text
    .replaceAll(/eyJ[\w-]+\.[\w-]+\.[\w-]+/g, 'eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCIs…')
    .replaceAll(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, stableId)
    .replaceAll(/(v1\.[0-9a-f-]{36}\.\d+)\.[\w-]{43}/g, '$1.…')
    .replaceAll(/"verification_token":"[^"]+"/g, '"verification_token":"kq3b0lqk1cN0tQ0VYJ0RcA.…"')
    .replaceAll(/"([xy])":"[\w-]{43}"/g, '"$1":"…"')
    .replaceAll(/\b(ada|grace|alan)\.\d+@/g, '$1.12345@')
    .replaceAll(/\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g, stableTime)
    .replaceAll(/(?<=retry-after: )(?:5\d|60)\b/gi, '60')
    .replaceAll(/\d+\.\d s \(\d+ a second\)/g, '0.1 s (10 a second)')
    .replaceAll(/curl\/[\d.]+/g, 'curl/8.5.0')
    .replaceAll('"::1"', '"127.0.0.1"');
}

function renderOutput(output: string): string {
  const parts = output.split(/(?=^HTTP\/1\.1 \d)|(?<=\})(?=HTTP\/1\.1 \d)/m).map((part) => {
    return part.startsWith('HTTP/') ? renderReply(part) : part.trimEnd();
  });
  const language = output.startsWith('HTTP/') ? 'http' : 'text';
  return `\n\`\`\`${language}\n${parts.join('\n\n')}\n\`\`\`\n`;
}

function renderReply(reply: string): string {
  const [head = '', rest = ''] = reply.split('\r\n\r\n');
  const [status = '', ...headers] = head.split('\r\n');
  const shown = headers.filter((header) => shownHeaders.includes(header.split(':')[0]?.toLowerCase() ?? ''));
  // What a block prints after its reply follows the body.
  const [, body = '', after = ''] = /^(\{[\s\S]*\})?([\s\S]*)$/.exec(rest) ?? [];
  const lines = [status, ...shown];
  if (body !== '') lines.push('', formatJson(JSON.parse(body)));
  if (after.trim() !== '') lines.push('', after.trim());
  return lines.join('\n');
}
