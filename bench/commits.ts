import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, fdatasyncSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { Agent, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { Kysely } from 'kysely';
import { buildApp } from '../src/app.ts';
import type { Schema } from '../src/db/schema.ts';
import { createSqliteDialect } from '../src/db/sqlite-dialect.ts';
import type { ApiInstance } from '../src/http/api.ts';
import { openSession, registerUser } from '../test/accounts.ts';
import { listChildren, sendSignal } from '../test/processes.ts';
import { startSystem } from '../test/system.ts';
import { median } from './statistics.ts';

/**
 * `npm run bench:commits`: refreshes on SQLite over HTTP, by as many clients at once as it says, with one commit for the
 * writes of a turn against one for each write. Both sides are applications of one process, which take turns in one run
 * because machines are noisy; what counts is the ratio of their medians. The waits for the disk are counted with strace,
 * in a run of their own.
 */
const rounds = Number(process.env.ROUNDS ?? 9);
const loads = [
  { clients: 1, calls: 100 },
  { clients: 8, calls: 200 },
  { clients: 32, calls: 320 },
  { clients: 128, calls: 640 },
] as const;
const sides = ['apart', 'together'] as const;
const sessions = 128;

type Side = (typeof sides)[number];
type Service = Record<Side, { port: number; tokens: string[] }>;

if (process.argv[2] === 'serve') await serve();
else await compare();

/** The process under test: two applications with a database each, which tells where they listen. */
async function serve(): Promise<void> {
  const service: Partial<Service> = {};
  for (const side of sides) {
    const system = await startSystem('sqlite+memory', { SESSIONS_PER_USER_MAX: '1000' });
    const user = await registerUser(system);
    const tokens: string[] = [];
    while (tokens.length < sessions) tokens.push((await openSession(system, user)).refreshToken);
    const path = join(system.deps.config.environment.DATA_DIR, 'latchkey.db');
    const dialect = createSqliteDialect(path, { commitsInGroups: side === 'together' });
    const db = new Kysely<Schema>({ dialect });
    const app: ApiInstance = await buildApp({ ...system.deps, db });
    await app.listen({ host: '127.0.0.1', port: 0 });
    service[side] = { port: (app.server.address() as AddressInfo).port, tokens };
    process.once('SIGTERM', async () => {
      await app.close();
      await db.destroy();
      await system.close();
    });
  }
  console.log(JSON.stringify(service));
}

async function compare(): Promise<void> {
  console.log(`a write of 4 KiB that waits for the disk takes ${measureDisk().toFixed(2)} ms here`);
  const rates = await withService([], measureRates);
  const counts = await countSyncs().catch(() => undefined);
  for (const { clients } of loads) {
    const [apart, together] = sides.map((side) => median(rates.get(`${side} ${clients}`) ?? []));
    const figures = `${apart?.toFixed(0)}/s apart, ${together?.toFixed(0)}/s together`;
    const ratio = ((together ?? 0) / (apart ?? 1)).toFixed(2);
    const [before, after] = sides.map((side) => counts?.get(`${side} ${clients}`)?.toFixed(0) ?? '?');
    const label = `${clients} client${clients === 1 ? '' : 's'}`.padEnd(12);
    console.log(`${label} ${figures}: ratio ${ratio}; ${before} and ${after} waits for the disk in 1,000 refreshes`);
  }
}

async function measureRates(service: Service): Promise<Map<string, number[]>> {
  const rates = new Map<string, number[]>();
  for (let round = 0; round < rounds; round += 1) {
    for (const { clients, calls } of loads) {
      for (const side of round % 2 === 0 ? sides : sides.toReversed()) {
        const startedAtMs = performance.now();
        await refreshInChains(service[side], clients, calls);
        const rate = calls / ((performance.now() - startedAtMs) / 1000);
        const key = `${side} ${clients}`;
        // The first round warms up.
        if (round > 0) rates.set(key, [...(rates.get(key) ?? []), rate]);
      }
    }
  }
  return rates;
}

/** Counts the calls that wait for the disk in a thousand refreshes. */
async function countSyncs(): Promise<Map<string, number>> {
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-bench-'));
  const trace = join(folder, 'trace');
  const strace = ['strace', '-f', '--seccomp-bpf', '-qq', '-e', 'trace=fsync,fdatasync', '-o', trace, '--'];
  const count = () => readFileSync(trace, 'utf8').match(/\bf(?:data)?sync\(/g)?.length ?? 0;
  try {
    return await withService(strace, async (service) => {
      const counts = new Map<string, number>();
      for (const { clients } of loads) {
        for (const side of sides) {
          const before = count();
          await refreshInChains(service[side], clients, 1_000);
          counts.set(`${side} ${clients}`, count() - before);
        }
      }
      return counts;
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function withService<T>(wrapper: readonly string[], run: (service: Service) => Promise<T>): Promise<T> {
  const [command = '', ...args] = [...wrapper, process.execPath, import.meta.filename, 'serve'];
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  try {
    return await run(await readService(child));
  } finally {
    // A strace passes no signal on; it ends when the program does.
    const [program = child.pid ?? 0] = listChildren(child.pid ?? 0);
    sendSignal(program, 'SIGTERM');
    await ended;
  }
}

async function readService({ stdout }: ChildProcess): Promise<Service> {
  let text = '';
  for await (const chunk of stdout ?? []) {
    text += chunk;
    if (text.endsWith('\n')) return JSON.parse(text) as Service;
  }
  throw new Error('the service did not start');
}

/** Refreshes so many times, each client one session at a time with the token that it was given last. */
async function refreshInChains({ port, tokens }: Service[Side], clients: number, calls: number): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: clients });
  let left = calls;
  const client = async (_: unknown, place: number) => {
    while (left > 0) {
      left -= 1;
      tokens[place] = await refresh(agent, port, tokens[place] ?? '');
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  agent.destroy();
}

async function refresh(agent: Agent, port: number, token: string): Promise<string> {
  const headers = { 'content-type': 'application/json' };
  const outgoing = request({ agent, host: '127.0.0.1', port, method: 'POST', path: '/auth/refresh', headers });
  outgoing.end(JSON.stringify({ refresh_token: token }));
  const [incoming] = await once(outgoing, 'response');
  const body = (await json(incoming)) as { refresh_token: string };
  if (incoming.statusCode !== 200) throw new Error(`POST /auth/refresh answered ${incoming.statusCode}`);
  return body.refresh_token;
}

/** What a small write with a wait for the disk takes in the folder where the databases are, in milliseconds. */
function measureDisk(): number {
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-bench-'));
  const file = openSync(join(folder, 'file'), 'w');
  const times = Array.from({ length: 200 }, () => {
    const startedAtMs = performance.now();
    writeSync(file, Buffer.alloc(4096, 1));
    fdatasyncSync(file);
    return performance.now() - startedAtMs;
  });
  closeSync(file);
  rmSync(folder, { recursive: true });
  return median(times);
}
