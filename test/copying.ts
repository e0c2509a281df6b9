import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import pg from 'pg';
import { recordEvent } from '../src/audit/flow.ts';
import { expireEventsAfter } from '../src/audit/retention.ts';
import { newId } from '../src/crypto/ids.ts';
import { makeRefreshToken } from '../src/crypto/refresh-token.ts';
import { generateSigningKey } from '../src/crypto/signing-key.ts';
import { inTransaction } from '../src/db/database.ts';
import type { Db } from '../src/db/schema.ts';
import type { Deps } from '../src/deps.ts';
import { rememberDevice } from '../src/devices/flow.ts';
import { insertSigningKey } from '../src/keys/store.ts';
import { notice } from '../src/mail/outbox.ts';
import { insertUser, insertUserRole } from '../src/registration/store.ts';
import { openSession } from '../src/sessions/flow.ts';
import { refresh } from './accounts.ts';
import { sealAll } from './audit.ts';
import { newUser } from './database.ts';
import { createScratch, startSystem } from './system.ts';

/** An installation on SQLite that has been stopped. */
export type Installation = {
  folder: string;
  sourcePath: string;
  secret: string;
  users: MovedUser[];
  /** Of the first user. */
  accessToken: string;
  remove(): Promise<void>;
};

/** Somebody with a password of their own and a live session. */
export type MovedUser = { id: string; email: string; password: string; refreshToken: string };

/** What every user's browser says, and where it is: a login from elsewhere would be news. */
export const browser = 'Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0';
const context = () => ({
  requestId: newId(),
  clientAddress: '127.0.0.1',
  userAgent: browser,
  signal: new AbortController().signal,
});

// Text that means something to an array, a string or a driver on the way.
const awkwardNames = [null, '{}', '"', "'; --", '\\', 'NULL', ',', 'Ada 🦉 Łoś', '\u00a0x', 'a\ud800b', '\\x00', '%s'];

/** Makes an installation with so many users and a row in every table. */
export async function makeInstallation(userCount: number): Promise<Installation> {
  const { environment, remove } = await createScratch('sqlite+memory');
  const folder = environment.DATA_DIR ?? '';
  const secret = randomBytes(48).toString('base64');
  const system = await startSystem('sqlite+memory', { DATA_DIR: folder, SECRET_KEY: secret });
  await beginAuditTrail(system.deps);
  const users = await addUsers(system.deps, userCount);
  await addRest(system.deps, users);
  await sealAll(system.deps);
  const [first] = users;
  if (first === undefined) throw new Error('there are no users');
  const { body } = await refresh(system, first.refreshToken);
  first.refreshToken = body.refresh_token;
  await system.close();
  return { folder, sourcePath: join(folder, 'latchkey.db'), secret, users, accessToken: body.access_token, remove };
}

const yearMs = 365 * 24 * 60 * 60 * 1000;

/** An audit trail whose beginning the retention has removed already. */
async function beginAuditTrail(deps: Deps): Promise<void> {
  const nowMs = deps.clock.now();
  const event = { type: 'login.failed', userId: null, details: { method: 'password', attempt: 'compared' } } as const;
  await recordEvent(deps.db, event, context(), nowMs - 2 * yearMs);
  await sealAll(deps);
  await expireEventsAfter(deps, 365)(deps.db, nowMs, 1);
}

// Few enough for the hash queue; one commit for all of them, because each waits for the disk.
const usersAtOnce = 100;

async function addUsers(deps: Deps, count: number): Promise<MovedUser[]> {
  const users: MovedUser[] = [];
  for (let from = 0; from < count; from += usersAtOnce) {
    const indices = Array.from({ length: Math.min(usersAtOnce, count - from) }, (_, offset) => from + offset);
    const passwords = indices.map((index) => `the password of user ${index}`);
    const hashes = await Promise.all(passwords.map((password) => deps.passwords.hash(password)));
    const opened = await inTransaction(deps.db, (tx) =>
      Promise.all(indices.map((index, offset) => addUser(deps, tx, index, hashes[offset] ?? ''))),
    );
    for (const [offset, { session, user }] of opened.entries()) {
      const refreshToken = makeRefreshToken(deps.keyring, session.id, session.generation, session.salt);
      users.push({ id: user.id, email: user.email, password: passwords[offset] ?? '', refreshToken });
    }
  }
  return users;
}

async function addUser(deps: Deps, tx: Db, index: number, passwordHash: string) {
  const id = newId();
  const nowMs = deps.clock.now();
  await insertUser(tx, {
    id,
    email: `user-${index}@example.com`,
    name: awkwardNames[index % awkwardNames.length] ?? null,
    locale: index % 2 === 0 ? 'en' : null,
    metadata: JSON.stringify({ index, text: awkwardNames[index % awkwardNames.length], nul: '\0', lone: '\udc00' }),
    status: 'active',
    password_hash: passwordHash,
    created_at: nowMs,
    updated_at: nowMs,
    last_login_at: index % 3 === 0 ? null : nowMs,
  });
  await insertUserRole(tx, id, 'user');
  await rememberDevice(deps, tx, id, context());
  const opened = await openSession(deps, tx, id, context());
  const details = { session_id: opened.session.id };
  await recordEvent(tx, { type: 'user.registered', userId: id, details }, context(), nowMs);
  return opened;
}

/** A row in each of the other tables, and what is not as a fresh start makes it. */
async function addRest({ db, outbox, clock, keyring }: Deps, [first, second]: MovedUser[]): Promise<void> {
  if (first === undefined || second === undefined) throw new Error('two users are needed');
  const nowMs = clock.now();
  await db.updateTable('roles').set({ description: 'edited' }).where('name', '=', 'admin').execute();
  const permissions = '["reports:read"]';
  await db.insertInto('roles').values({ name: 'Prüfer', description: '', permissions, created_at: nowMs }).execute();
  await db.insertInto('user_roles').values({ user_id: first.id, role_name: 'Prüfer' }).execute();
  await db.insertInto('user_roles').values({ user_id: first.id, role_name: 'admin' }).execute();
  await insertUser(db, { ...newUser(), status: 'disabled' });
  for (const { id, email } of [first, second]) {
    await outbox.enqueue(db, notice({ id, email, locale: null }, { kind: 'password_changed' }, nowMs));
  }
  const pending = { user_id: second.id, email: 'new@example.com', created_at: nowMs, expires_at: nowMs + 60_000 };
  await db.insertInto('pending_email_changes').values(pending).execute();
  const suspended = { user_id: second.id, failures: 101, suspended_at: nowMs, expires_at: nowMs + 60_000 };
  await db
    .insertInto('password_failures')
    .values([
      { lane: 'of an account', ...suspended },
      { lane: 'of nobody', user_id: null, failures: 3, suspended_at: null, expires_at: nowMs + 60_000 },
    ])
    .execute();
  await db.insertInto('pending_erasures').values({ user_id: newId(), created_at: nowMs }).execute();
  await db.insertInto('leases').values({ name: 'chore', holder: 'the old process', expires_at: nowMs }).execute();
  await insertSigningKey(db, { ...(await generateSigningKey(keyring)), state: 'retired' }, nowMs);
  await db.updateTable('signing_keys').set({ retired_at: nowMs }).where('state', '=', 'retired').execute();
}

type Rows = Record<string, string[]>;

/** Every row of every table of the SQLite file, but the notes of the migrator. */
export function readSource(path: string): Rows {
  const database = new DatabaseSync(path, { readOnly: true });
  const read = (query: string) => database.prepare(query).all();
  const names = read("select name from sqlite_schema where type = 'table' and name not like 'sqlite%'").map(
    ({ name }) => String(name),
  );
  const rows = names.map((name) => [name, sortRows(read(`select * from "${name}"`))] as const);
  database.close();
  return withoutMigrator(rows);
}

/** The same of the PostgreSQL database. */
export async function readTarget(url: string): Promise<Rows> {
  return onPostgres(url, async (client) => {
    const { rows: names } = await client.query('select tablename from pg_tables where schemaname = current_schema()');
    const rows: [string, string[]][] = [];
    for (const { tablename } of names) {
      const result = await client.query(`select * from "${tablename}"`);
      rows.push([tablename, sortRows(result.rows)]);
    }
    return withoutMigrator(rows);
  });
}

/** Runs statements on a PostgreSQL database as its owner. */
export async function onPostgres<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

function withoutMigrator(rows: readonly (readonly [string, string[]])[]): Rows {
  return Object.fromEntries(rows.filter(([name]) => !name.startsWith('kysely_')));
}

/** As text, because the drivers give numbers in different types, and columns in the order of their names. */
function sortRows(rows: readonly object[]): string[] {
  const toText = (value: unknown) => (value === null ? null : String(value));
  return rows
    .map((row) =>
      JSON.stringify(
        Object.entries(row)
          .map(([name, value]) => [name, toText(value)])
          .sort(),
      ),
    )
    .sort();
}

/** How a command ended and what it printed. */
type Outcome = {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
  /** The most memory that the process had at once; undefined where the system does not say. */
  peakMebibytes: number | undefined;
};

/** A command in a process of its own. */
export type RunningCommand = { kill(signal: NodeJS.Signals): void; ended: Promise<Outcome> };

const main = join(import.meta.dirname, '../src/cli/start.js');
const runLimitMs = 100_000;
const children = new Set<ChildProcess>();

// A test that fails must leave no process behind.
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL');
});

/**
 * Starts the command line with these arguments, in this folder and with no other variables of ours. The input is all
 * that it can read; without one there is nothing.
 */
export function startCommand(
  args: readonly string[],
  { cwd, ...environment }: Record<string, string> & { cwd: string },
  input = '',
): RunningCommand {
  const child = spawn(process.execPath, [main, ...args], {
    cwd,
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE ?? '', ...environment },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  children.add(child);
  // One that reads nothing may be gone before this is written.
  child.stdin.on('error', () => {}).end(input);
  const printed = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (chunk: string) => {
      printed[name] += chunk;
    });
  }
  let peakMebibytes: number | undefined;
  const limit = setTimeout(() => child.kill('SIGKILL'), runLimitMs);
  const watch = setInterval(() => {
    peakMebibytes = readPeakMebibytes(child.pid) ?? peakMebibytes;
  }, 20);
  const ended = once(child, 'close').then(([code, signal]): Outcome => {
    clearTimeout(limit);
    clearInterval(watch);
    children.delete(child);
    return { code, signal, ...printed, peakMebibytes };
  });
  return { kill: (signal) => void child.kill(signal), ended };
}

type Ends = { sourcePath: string; targetUrl: string };

/** Starts `copy-database`, with the target's URL in the environment. */
export function startCopy({ sourcePath, targetUrl }: Ends, ...options: string[]): RunningCommand {
  const args = ['copy-database', '--from', `sqlite:${sourcePath}`, ...options];
  return startCommand(args, { cwd: dirname(sourcePath), DATABASE_URL: targetUrl });
}

/** Runs `copy-database` to its end. */
export function runCopy(ends: Ends, ...options: string[]): Promise<Outcome> {
  return startCopy(ends, ...options).ended;
}

function readPeakMebibytes(pid: number | undefined): number | undefined {
  try {
    const kibibytes = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return kibibytes === undefined ? undefined : Number(kibibytes) / 1024;
  } catch {
    // It has just ended, or this is not Linux.
    return undefined;
  }
}
