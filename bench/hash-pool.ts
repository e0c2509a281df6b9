import { fork } from 'node:child_process';
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { buildApp } from '../src/app.ts';
import { createHashPool } from '../src/crypto/hash-pool.ts';
import { createPasswordHasher } from '../src/crypto/passwords.ts';
import { goodPassword, registerUser } from '../test/accounts.ts';
import { startSystem } from '../test/system.ts';
import { median } from './statistics.ts';

/**
 * `npm run bench:hash-pool`: what the number and the priority of the hash threads mean for logins and for everybody else, on
 * SQLite at bcrypt's default cost. `npm run bench:hash-pool -- 5` takes five rounds. Each setting is a process of its own, all
 * take turns in each round because machines are noisy; what counts are the medians at the end.
 */
const cost = 12;
const seconds = 4;
const readers = 16;
const loginClients = 16;
const pacedReadEveryMs = 20;
const processors = availableParallelism();

type Setting = { threads: number; niceness: number };
/** One user reads and another logs in: so many logins end a user's earlier sessions. */
type Served = { port: number; accessToken: string; email: string };
/** Answers false where the service refused for want of a place. */
type Ask = () => Promise<boolean>;
type Answers = {
  /** Of what was answered while it was measured: for what is compared with something else at the same time. */
  ratePerSecond: number;
  /** Of everything up to the last answer, which is exact where all threads are busy to the end. */
  rateToLast: number;
  p50Ms: number;
  p99Ms: number;
};

const [role, ...given] = process.argv.slice(2);
if (role === 'serve') await serve({ threads: Number(given[0]), niceness: Number(given[1]) });
else if (role === 'hash') await hashAlone();
else await compare(Number(role ?? 3));

/** A system whose hash threads are those of the setting; otherwise as it is. It ends when its parent lets go of it. */
async function serve({ threads, niceness }: Setting): Promise<void> {
  const system = await startSystem('sqlite+memory', { BCRYPT_COST: String(cost) });
  const scheme = { name: 'bcrypt', cost } as const;
  const passwords = createPasswordHasher({
    keyring: system.deps.keyring,
    scheme,
    threads,
    maxWaiting: 100,
    niceness,
  });
  const app = await buildApp({ ...system.deps, passwords });
  const reader = await registerUser({ ...system, app });
  const { email } = await registerUser({ ...system, app });
  await app.listen({ host: '127.0.0.1', port: 0 });
  const { port } = app.server.address() as AddressInfo;
  process.send?.({ port, accessToken: reader.accessToken, email } satisfies Served);
  process.once('disconnect', async () => {
    await app.close();
    await passwords.close();
    await system.close();
  });
}

/** The raw rate: as many threads as processors that do nothing but hash. */
async function hashAlone(): Promise<void> {
  const pool = createHashPool({ threads: processors, maxWaiting: 0, niceness: 0 });
  const hash = async () => {
    await pool.run({ kind: 'hash', scheme: { name: 'bcrypt', cost }, input: goodPassword });
    return true;
  };
  // The first ones start the threads.
  await Promise.all(Array.from({ length: processors }, hash));
  const { rateToLast } = await askFor(seconds, processors, hash);
  await pool.close();
  process.send?.(rateToLast);
  process.disconnect?.();
}

type Figures = Awaited<ReturnType<typeof measure>>;

async function compare(rounds: number): Promise<void> {
  const threadCounts = [...new Set([Math.max(1, processors - 1), processors])];
  const settings = threadCounts.flatMap((threads) => [0, 5, 10, 19].map((niceness) => ({ threads, niceness })));
  const measured = settings.map((setting) => ({ setting, figures: [] as Figures[] }));
  console.log(`${processors} processors, bcrypt cost ${cost}, ${rounds} rounds of ${seconds} s`);
  printCells(['threads nice', 'logins/raw', 'p99 of reads', 'reads/idle', 'logins/s', 'one login ms']);
  for (let round = 0; round < rounds; round += 1) {
    for (const { setting, figures } of measured) {
      figures.push(await measure(setting));
      printRow(setting, figures.slice(-1));
    }
  }
  console.log('medians of the rounds');
  for (const { setting, figures } of measured) printRow(setting, figures);
}

function printRow({ threads, niceness }: Setting, figures: readonly Figures[]): void {
  const of = (name: keyof Figures) => median(figures.map((one) => one[name]));
  printCells([
    `${threads} ${String(niceness).padStart(6)}`,
    of('loginsToRaw').toFixed(2),
    `${of('readP99Ms').toFixed(0)} ms`,
    of('readsToIdle').toFixed(2),
    of('loginsAmidReads').toFixed(1),
    of('loginAmidReadsMs').toFixed(0),
  ]);
}

function printCells([first, ...others]: readonly string[]): void {
  console.log([first?.padEnd(12), ...others.map((text) => text.padStart(14))].join(''));
}

async function measure({ threads, niceness }: Setting) {
  const rawRate = await hear<number>(['hash']);
  const child = fork(import.meta.filename, ['serve', String(threads), String(niceness)]);
  const ended = once(child, 'exit');
  const [served] = (await once(child, 'message')) as [Served];
  const agent = new Agent({ keepAlive: true });
  const read = () => ask(agent, served, 'GET', '/users/me');
  const logIn = () => ask(agent, served, 'POST', '/auth/login', { email: served.email, password: goodPassword });
  await Promise.all([askFor(1, readers, read), askFor(1, 2, logIn)]);
  const idle = await askFor(seconds, readers, read);
  // Logins alone, and one who reads at a fixed pace: what that one waits for is the storm.
  const [storm, paced] = await Promise.all([
    askFor(seconds, loginClients, logIn),
    askFor(seconds, 1, read, pacedReadEveryMs),
  ]);
  const [reads, logins] = await Promise.all([askFor(seconds, readers, read), askFor(seconds, loginClients, logIn)]);
  const [, lone] = await Promise.all([askFor(seconds, readers, read), askFor(seconds, 1, logIn)]);
  agent.destroy();
  child.disconnect();
  await ended;
  return {
    loginsToRaw: storm.rateToLast / rawRate,
    readP99Ms: paced.p99Ms,
    readsToIdle: reads.ratePerSecond / idle.ratePerSecond,
    loginsAmidReads: logins.ratePerSecond,
    loginAmidReadsMs: lone.p50Ms,
  };
}

/** Starts this file in a process of its own and returns the one thing that it says. */
async function hear<T>(args: readonly string[]): Promise<T> {
  const child = fork(import.meta.filename, args);
  const ended = once(child, 'exit');
  const [said] = (await once(child, 'message')) as [T];
  await ended;
  return said;
}

/** Lets so many clients ask, each as soon as it was answered and has paused. */
async function askFor(forSeconds: number, clients: number, ask: Ask, pauseMs = 0): Promise<Answers> {
  const startedAtMs = performance.now();
  const endsAtMs = startedAtMs + forSeconds * 1000;
  const tookMs: number[] = [];
  let inTime = 0;
  const client = async () => {
    while (performance.now() < endsAtMs) {
      const askedAtMs = performance.now();
      const isDone = await ask();
      if (isDone) tookMs.push(performance.now() - askedAtMs);
      if (isDone && performance.now() < endsAtMs) inTime += 1;
      if (pauseMs > 0) await sleep(pauseMs);
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  tookMs.sort((a, b) => a - b);
  return {
    ratePerSecond: inTime / forSeconds,
    rateToLast: tookMs.length / ((performance.now() - startedAtMs) / 1000),
    p50Ms: tookMs[Math.floor(tookMs.length * 0.5)] ?? 0,
    p99Ms: tookMs[Math.floor(tookMs.length * 0.99)] ?? 0,
  };
}

/** Asks once over a kept connection. A 503 is a refusal; whatever else is not 200 ends the run. */
function ask(
  agent: Agent,
  { port, accessToken }: Served,
  method: string,
  path: string,
  body?: object,
): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  const headers = { authorization: `Bearer ${accessToken}`, 'content-type': 'application/json' };
  const sent = request({ agent, host: '127.0.0.1', port, method, path, headers }, (response) => {
    const { statusCode } = response.resume();
    response.once('end', () => {
      if (statusCode === 200 || statusCode === 503) resolve(statusCode === 200);
      else reject(new Error(`${method} ${path} answered ${statusCode}`));
    });
  });
  sent.once('error', reject).end(body === undefined ? undefined : JSON.stringify(body));
  return promise;
}
