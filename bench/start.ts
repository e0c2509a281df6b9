import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import packageJson from '../package.json' with { type: 'json' };
import { findFreePort } from '../test/ports.ts';
import { readCpuSeconds } from '../test/processes.ts';
import { post, register } from '../test/program.ts';
import { median } from './statistics.ts';

/**
 * `npm run bench:start`: how long the program of `npm start` takes from the start of its process to the first 200 of
 * GET /health/ready, on an empty SQLite database, and how much memory it holds when it has settled. `cold` starts with an
 * empty compile cache, `warm` with that of the start before; they take turns, because machines are noisy. What the first
 * registration and the first login take shows that nothing was only put off. `--rounds=<n>`, `--json`.
 */
const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '9' }, json: { type: 'boolean', default: false } },
});
const root = join(import.meta.dirname, '..');
const settleMs = 3_000;
const askEveryMs = 2;
const password = 'quiet lantern over the harbour';

type Measured = Record<(typeof columns)[number], number>;

const columns = ['ready_ms', 'cpu_ms', 'register_ms', 'login_ms', 'rss_mib', 'pss_mib', 'threads'] as const;
const sides = ['cold', 'warm'] as const;

const folder = mkdtempSync(join(tmpdir(), 'latchkey-start-'));
const rounds: Record<(typeof sides)[number], Measured[]> = { cold: [], warm: [] };
try {
  for (let round = 0; round < Number(values.rounds); round += 1) {
    const cache = join(folder, `cache-${round}`);
    // The second finds what the first has left.
    for (const side of sides) rounds[side].push(await measure(join(folder, `${side}-${round}`), cache));
    rmSync(cache, { recursive: true });
  }
  const figures = { ...summarise(), node_alone: await measureNode() };
  if (values.json) console.log(JSON.stringify({ node: process.version, rounds: Number(values.rounds), ...figures }));
  else printTable(figures);
} finally {
  rmSync(folder, { recursive: true });
}

/** Starts the program in an empty folder, looks at it idle, and only then uses it. */
async function measure(cwd: string, cache: string): Promise<Measured> {
  mkdirSync(cwd);
  const port = await findFreePort();
  const startedAtMs = performance.now();
  // As npm starts it, without npm.
  const [command, ...args] = packageJson.scripts.start.split(' ');
  assert.equal(command, 'node');
  const child = spawn(process.execPath, args.map(resolveProgram), {
    cwd,
    env: { PATH: process.env.PATH, PORT: String(port), HOST: '127.0.0.1', NODE_COMPILE_CACHE: cache },
    stdio: 'ignore',
  });
  try {
    const origin = `http://127.0.0.1:${port}`;
    while (!(await isReady(origin))) {
      assert.equal(child.exitCode, null, 'the program ended');
      await sleep(askEveryMs);
    }
    const readyMs = performance.now() - startedAtMs;
    const cpuMs = readCpuSeconds(child.pid ?? 0) * 1000;
    await sleep(settleMs);
    const memory = readMemory(child);
    const program = { origin, port, pid: child.pid ?? 0, output: () => '', stop: unused };
    const registerMs = await time(async () => (await register(program, 'ada@example.com', password)).status === 201);
    const body = { email: 'ada@example.com', password };
    const loginMs = await time(async () => (await post(program, '/auth/login', body)).status === 200);
    return { ready_ms: readyMs, cpu_ms: cpuMs, register_ms: registerMs, login_ms: loginMs, ...memory };
  } finally {
    child.kill('SIGTERM');
    if (child.exitCode === null) await once(child, 'exit');
  }
}

function resolveProgram(argument: string): string {
  return argument.startsWith('-') ? argument : join(root, argument);
}

async function isReady(origin: string): Promise<boolean> {
  try {
    return (await fetch(`${origin}/health/ready`)).status === 200;
  } catch {
    return false;
  }
}

async function time(succeeds: () => Promise<boolean>): Promise<number> {
  const startedAtMs = performance.now();
  assert.ok(await succeeds());
  return performance.now() - startedAtMs;
}

async function unused(): Promise<never> {
  throw new Error('the measurement ends its program itself');
}

/** What a process of Node.js takes that does nothing. */
async function measureNode(): Promise<Pick<Measured, 'rss_mib' | 'pss_mib' | 'threads'>> {
  const child = spawn(process.execPath, ['--eval', 'setTimeout(() => {}, 60_000)'], { stdio: 'ignore' });
  await sleep(settleMs);
  const memory = readMemory(child);
  child.kill();
  return memory;
}

function readMemory({ pid }: ChildProcess): Pick<Measured, 'rss_mib' | 'pss_mib' | 'threads'> {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8') + readFileSync(`/proc/${pid}/status`, 'utf8');
  const read = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1]);
  return { rss_mib: read('Rss') / 1024, pss_mib: read('Pss') / 1024, threads: read('Threads') };
}

function summarise() {
  const medians = (side: readonly Measured[]) =>
    Object.fromEntries(columns.map((column) => [column, Math.round(median(side.map((one) => one[column])))]));
  return { cold: medians(rounds.cold), warm: medians(rounds.warm) };
}

function printTable(figures: Record<string, Record<string, number>>): void {
  console.log(`Node.js ${process.version}, medians of ${values.rounds} starts each`);
  for (const [name, row] of Object.entries(figures)) {
    const cells = Object.entries(row).map(([column, value]) => `${column} ${value.toFixed(0)}`);
    console.log(`${name.padEnd(11)}${cells.join('  ')}`);
  }
}
