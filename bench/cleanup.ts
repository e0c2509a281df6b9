import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Insertable } from 'kysely';
import { loadConfig } from '../src/config.ts';
import { newId } from '../src/crypto/ids.ts';
import { openDatabase } from '../src/db/database.ts';
import type { Schema } from '../src/db/schema.ts';
import { newMail, newSession } from '../test/database.ts';
import { backends } from '../test/system.ts';
import { openBulkWriter } from './bulk-writer.ts';
import { encodeRequest, openConnection } from './http-connection.ts';
import { expectStatus } from './load.ts';
import { measurePacedLoad } from './paced-load.ts';
import { createInstallation, type Installation } from './program.ts';
import { type Seeded, seedUsers } from './seed.ts';
import { summarise } from './statistics.ts';

/**
 * `npm run bench:cleanup`: what the removal of 100,000 expired rows does to the p99 of GET /users/me, which is asked
 * at a steady rate before, during and after. Fails where it is more than twice the idle one.
 */
const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: '100000' },
    rate: { type: 'string', default: '400' },
    only: { type: 'string' },
    seconds: { type: 'string', default: '8' },
    json: { type: 'string' },
  },
});
const rows = Number(values.rows);
const ratePerSecond = Number(values.rate);
const sweepLimitMs = Number(values.seconds) * 1000;
const idleMs = 2_500;
const allowed = 2;
const dayMs = 24 * 60 * 60 * 1000;
const retentionDays = 180;
// Of the audit events of a year about half are older than that.
const users = rows;

type Result = {
  backend: string;
  chore: string;
  rows: number;
  seconds: number;
  idleP99Ms: number;
  p99Ms: number;
  ratio: number;
};
type Server = { child: ChildProcess; origin: string };
type Cell<T extends keyof Schema> = Readonly<Insertable<Schema[T]>>;

// One that expired is made out of a user's id and its number.
const expired = {
  sessions: (userId: string): Cell<'sessions'> => newSession(userId),
  // Not due, so that only the cleaner removes it.
  outbox: (userId: string): Cell<'outbox'> => ({ ...newMail(userId), next_attempt_at: Date.now() + dayMs }),
  pending_email_changes: (userId: string, index: number): Cell<'pending_email_changes'> => ({
    user_id: userId,
    email: `new${index}@example.com`,
    created_at: 1,
    expires_at: 1,
  }),
  password_failures: (userId: string): Cell<'password_failures'> => ({
    lane: newId(),
    user_id: userId,
    failures: 1,
    suspended_at: null,
    expires_at: 1,
  }),
  known_devices: (userId: string): Cell<'known_devices'> => ({
    user_id: userId,
    fingerprint: newId(),
    first_seen_at: 1,
    last_seen_at: 1,
  }),
} as const;
type Chore = keyof typeof expired | 'audit_events';
const chores: readonly Chore[] = [...(Object.keys(expired) as (keyof typeof expired)[]), 'audit_events'];

const running = new Set<ChildProcess>();
// A bench that fails must leave no process behind.
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

const results: Result[] = [];
for (const backend of backends) {
  const installation = await createInstallation(backend);
  try {
    const seeded = await seedUsers({ environment: installation.environment, users, samples: 500 });
    for (const chore of chores) {
      if (values.only !== undefined && values.only !== chore) continue;
      results.push(await measureChore(installation, seeded, chore));
    }
  } finally {
    await installation.remove();
  }
}
const failed = results.filter(({ ratio }) => ratio > allowed);
if (values.json !== undefined)
  writeFileSync(values.json, `${JSON.stringify({ rows, ratePerSecond, allowed, results }, null, 2)}\n`);
for (const { backend, chore, ratio } of failed)
  console.error(`${backend}, ${chore}: ${ratio.toFixed(2)} times is too much`);
process.exitCode = failed.length > 0 ? 1 : 0;

async function measureChore(installation: Installation, seeded: Seeded, chore: Chore): Promise<Result> {
  await prepare(installation, chore);
  const retention: Record<string, string> =
    chore === 'audit_events' ? { AUDIT_RETENTION_DAYS: String(retentionDays) } : {};
  const server = await startServer({ ...installation.environment, ...retention });
  try {
    const ask = await logIn(server, seeded);
    await measureFor(ask, idleMs / 4);
    const before = await measureFor(ask, idleMs);
    const { latenciesMs, removed, seconds } = await measureSweep(server, ask);
    const after = await measureFor(ask, idleMs);
    const idleP99Ms = summarise([...before, ...after]).p99;
    const { p99: p99Ms, max } = summarise(latenciesMs);
    const result = {
      backend: installation.backend,
      chore,
      rows: removed,
      seconds,
      idleP99Ms,
      p99Ms,
      ratio: p99Ms / idleP99Ms,
    };
    const what = `${removed.toLocaleString('en')} rows in ${seconds.toFixed(1)} s`;
    const times = `p99 ${idleP99Ms.toFixed(2)} ms idle, ${p99Ms.toFixed(2)} ms meanwhile (${max.toFixed(1)} at most)`;
    console.log(
      `${installation.backend.padEnd(15)} ${chore.padEnd(22)} ${what.padEnd(24)} ${times}: ratio ${result.ratio.toFixed(2)}`,
    );
    return result;
  } finally {
    server.child.disconnect();
    await once(server.child, 'exit');
  }
}

type Ask = { origin: string; next(): Buffer };

async function measureFor({ origin, next }: Ask, durationMs: number): Promise<number[]> {
  const check = (reply: Parameters<typeof expectStatus>[0]) => expectStatus(reply, 200);
  return measurePacedLoad({ origin, ratePerSecond, next, check, signal: AbortSignal.timeout(durationMs) });
}

async function measureSweep({ child }: Server, { origin, next }: Ask) {
  const end = new AbortController();
  const check = (reply: Parameters<typeof expectStatus>[0]) => expectStatus(reply, 200);
  const load = measurePacedLoad({ origin, ratePerSecond, next, check, signal: end.signal });
  child.send('sweep');
  // What it does to others is the same until the end, which may be a minute away.
  const limit = setTimeout(() => child.send('stop'), sweepLimitMs);
  const [{ removed, seconds }] = (await once(child, 'message')) as [{ removed: number; seconds: number }];
  clearTimeout(limit);
  end.abort();
  return { latenciesMs: await load, removed, seconds };
}

async function startServer(environment: Record<string, string>): Promise<Server> {
  const env = { PATH: process.env.PATH, ...environment };
  const child = fork(join(import.meta.dirname, 'cleanup-server.ts'), { cwd: environment.DATA_DIR, env });
  running.add(child);
  child.once('exit', () => running.delete(child));
  const [{ origin }] = (await once(child, 'message')) as [{ origin: string }];
  return { child, origin };
}

/** Exchanges the sample's refresh tokens, each of which the reply replaces, and asks with the access tokens in turn. */
async function logIn({ origin }: Server, { sample }: Seeded): Promise<Ask> {
  const connection = await openConnection(origin);
  const requests: Buffer[] = [];
  for (const user of sample) {
    const body = JSON.stringify({ refresh_token: user.refreshToken });
    const reply = await connection.send(encodeRequest(origin, { method: 'POST', path: '/auth/refresh', body }));
    expectStatus(reply, 200);
    const { access_token: token, refresh_token: next } = JSON.parse(reply.body.toString());
    user.refreshToken = next;
    requests.push(
      encodeRequest(origin, { method: 'GET', path: '/users/me', headers: { authorization: `Bearer ${token}` } }),
    );
  }
  connection.close();
  let asked = 0;
  return { origin, next: () => requests[asked++ % requests.length] ?? Buffer.alloc(0) };
}

/** Adds what has expired. The lease of the server before would keep this one from its turn. */
async function prepare({ environment }: Installation, chore: Chore): Promise<void> {
  const url = loadConfig(environment).environment.DATABASE_URL;
  const { db, close } = await openDatabase(url, () => {});
  await db.deleteFrom('leases').execute();
  const owners = await db.selectFrom('users').select('id').limit(rows).execute();
  await close();
  if (chore === 'audit_events') return;
  const writer = await openBulkWriter(url);
  try {
    await writer.write(chore, owners.map(({ id }, index) => expired[chore](id, index)) as never);
    await writer.finish();
  } finally {
    await writer.close();
  }
}
