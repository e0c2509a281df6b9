import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { chainStart } from '../src/audit/chain.ts';
import { type Config, loadConfig } from '../src/config.ts';
import { createPasswordHasher } from '../src/crypto/passwords.ts';
import { makeRefreshToken } from '../src/crypto/refresh-token.ts';
import { createKeyring, type Keyring, randomToken } from '../src/crypto/secrets.ts';
import { openDatabase } from '../src/db/database.ts';
import type { AuditEventRow, AuditSealRow, SessionRow, UserRow } from '../src/db/schema.ts';
import { type BulkWriter, openBulkWriter } from './bulk-writer.ts';
import { emailOf, makeEvent, makeSession, makeUser, scatter, sealRows, statusOf } from './seed-rows.ts';

/**
 * `npm run bench:seed -- --database <url> --users 1000000`: an installation with so many users, their sessions, roles,
 * devices and sealed audit events, as if the service had made them; SECRET_KEY is the one that it will be started with.
 */
export type SeedOptions = {
  /** What the service will be started with: DATABASE_URL or DATA_DIR, SECRET_KEY, and the scheme of passwords. */
  environment: Readonly<Record<string, string | undefined>>;
  users: number;
  sessionsPerUser?: number;
  auditEventsPerUser?: number;
  /** Of how many users, spread over all of them, the tokens are returned. */
  samples?: number;
  /** Told what is done, with how many rows and how fast. */
  report?: (line: string) => void;
};

/** A user whom a load generator can be: the refresh token is the live one of a session. */
export type SeededUser = { userId: string; email: string; sessionId: string; refreshToken: string };

/** What was made: every user has the one password, and the sample is spread over the whole range. */
export type Seeded = { password: string; sample: SeededUser[]; rows: Record<string, number>; seconds: number };

/** What the parts of a seeding share. */
type Seeding = {
  config: Config;
  keyring: Keyring;
  writer: BulkWriter;
  nowMs: number;
  users: number;
  perUser: { sessions: number; events: number };
};

const rowsPerBatch = 5_000;
// As many as the service puts into one.
const eventsPerSeal = 200;
const administrators = 10;
const password = 'correct horse battery staple';

/** Fills a database that has no users yet. Nobody may use it meanwhile. */
export async function seedUsers(options: SeedOptions): Promise<Seeded> {
  const startedAtMs = performance.now();
  const config = loadConfig(options.environment);
  const { DATABASE_URL: url } = config.environment;
  await prepareTables(url);
  const keyring = createKeyring(config.secretKeys);
  const passwordHash = await hashOnce(config, keyring);
  const writer = await openBulkWriter(url);
  try {
    const perUser = { sessions: options.sessionsPerUser ?? 1, events: options.auditEventsPerUser ?? 2 };
    const seeding = { config, keyring, writer, nowMs: Date.now(), users: options.users, perUser };
    const rows: Record<string, number> = {};
    const step = async <T extends { rows: Record<string, number> }>(work: () => Promise<T>): Promise<T> => {
      const beganAtMs = performance.now();
      const done = await work();
      Object.assign(rows, done.rows);
      for (const [table, count] of Object.entries(done.rows)) options.report?.(describe(table, count, beganAtMs));
      return done;
    };
    const { ids } = await step(() => writeUsers(seeding, passwordHash));
    await step(() => writeRolesAndDevices(seeding, ids));
    const { sample } = await step(() => writeSessions(seeding, ids, options.samples ?? 1_000));
    await step(() => writeEvents(seeding, ids));
    await writer.finish();
    return { password, sample, rows, seconds: (performance.now() - startedAtMs) / 1000 };
  } finally {
    await writer.close();
  }
}

function describe(table: string, count: number, beganAtMs: number): string {
  const seconds = (performance.now() - beganAtMs) / 1000;
  const rate = Math.round(count / seconds).toLocaleString('en');
  return `${table.padEnd(16)} ${count.toLocaleString('en').padStart(10)} rows ${seconds.toFixed(1).padStart(6)} s, ${rate} a second`;
}

async function prepareTables(url: string): Promise<void> {
  const database = await openDatabase(url, () => {});
  try {
    const somebody = await database.db.selectFrom('users').select('id').limit(1).executeTakeFirst();
    if (somebody !== undefined) throw new Error('the database has users already; only an empty one is filled');
  } finally {
    await database.close();
  }
}

/** One valid hash for everybody: a million of them at this cost would take days. */
async function hashOnce({ environment }: Config, keyring: Keyring): Promise<string> {
  const scheme =
    environment.PASSWORD_HASH === 'bcrypt'
      ? ({ name: 'bcrypt', cost: environment.BCRYPT_COST } as const)
      : ({ name: 'argon2id' } as const);
  const hasher = createPasswordHasher({ keyring, scheme, threads: 1, maxWaiting: 2 });
  try {
    return await hasher.hash(password);
  } finally {
    await hasher.close();
  }
}

async function writeUsers({ writer, users, nowMs }: Seeding, passwordHash: string) {
  const ids: string[] = [];
  function* rows(): Generator<UserRow> {
    for (let index = 0; index < users; index += 1) {
      const user = makeUser(index, { users, nowMs, passwordHash });
      ids.push(user.id);
      yield user;
    }
  }
  return { ids, rows: { users: await writeAll(rows(), (batch) => writer.write('users', batch)) } };
}

async function writeRolesAndDevices({ writer, nowMs }: Seeding, ids: readonly string[]) {
  function* roles() {
    for (const [index, userId] of ids.entries()) {
      yield { user_id: userId, role_name: 'user' };
      if (index < administrators) yield { user_id: userId, role_name: 'admin' };
    }
  }
  function* devices() {
    for (const [index, userId] of ids.entries()) {
      if (statusOf(index) === 'invited') continue;
      // As long as a fingerprint, and of nobody's device: the first login of a measurement is from a new one.
      yield { user_id: userId, fingerprint: randomToken(), first_seen_at: nowMs, last_seen_at: nowMs - index };
    }
  }
  return {
    rows: {
      user_roles: await writeAll(roles(), (batch) => writer.write('user_roles', batch)),
      known_devices: await writeAll(devices(), (batch) => writer.write('known_devices', batch)),
    },
  };
}

async function writeSessions(
  { config, keyring, writer, nowMs, users, perUser }: Seeding,
  ids: readonly string[],
  samples: number,
) {
  const { SESSION_IDLE_TTL_SECONDS: idleTtlSeconds, SESSION_MAX_TTL_SECONDS: maxTtlSeconds } = config.environment;
  const every = Math.max(1, Math.floor(users / samples));
  const sample = new Map<number, SeededUser>();
  const total = users * perUser.sessions;
  function* rows(): Generator<SessionRow> {
    for (let position = 0; position < total; position += 1) {
      const index = scatter(position, users);
      if (statusOf(index) !== 'active') continue;
      const userId = ids[index] ?? '';
      const age = 1 - position / total;
      const session = makeSession(userId, age, { nowMs, idleTtlSeconds, maxTtlSeconds });
      if (index % every === 0) {
        const refreshToken = makeRefreshToken(keyring, session.id, session.generation, session.salt);
        sample.set(index, { userId, email: emailOf(index), sessionId: session.id, refreshToken });
      }
      yield session;
    }
  }
  const written = await writeAll(rows(), (batch) => writer.write('sessions', batch));
  const inOrder = [...sample].sort(([one], [other]) => one - other).map(([, user]) => user);
  return { sample: inOrder, rows: { sessions: written } };
}

async function writeEvents({ keyring, writer, nowMs, users, perUser }: Seeding, ids: readonly string[]) {
  const total = users * perUser.events;
  let last: Pick<AuditSealRow, 'seq' | 'digest' | 'total_count'> = { ...chainStart, total_count: 0 };
  let seals: AuditSealRow[] = [];
  function* rows(): Generator<AuditEventRow> {
    for (let position = 0; position < total; position += eventsPerSeal) {
      const places = Array.from(
        { length: Math.min(eventsPerSeal, total - position) },
        (_, offset) => position + offset,
      );
      const events = places.map((place) =>
        makeEvent(ids[scatter(place, users)] ?? '', place < users, 1 - place / total, nowMs),
      );
      const { seal, events: sealed } = sealRows(keyring.current, last, events, nowMs);
      last = seal;
      seals.push(seal);
      yield* sealed;
    }
  }
  const written = await writeAll(rows(), async (batch) => {
    await writer.write('audit_events', batch);
    await writer.write('audit_seals', seals);
    seals = [];
  });
  return { rows: { audit_events: written } };
}

async function writeAll<T>(rows: Iterable<T>, write: (batch: readonly T[]) => Promise<void>): Promise<number> {
  let written = 0;
  let batch: T[] = [];
  const send = async () => {
    await write(batch);
    written += batch.length;
    batch = [];
  };
  for (const row of rows) {
    batch.push(row);
    if (batch.length === rowsPerBatch) await send();
  }
  await send();
  return written;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      database: { type: 'string' },
      users: { type: 'string', default: '1000000' },
      sessions: { type: 'string', default: '1' },
      'audit-events': { type: 'string', default: '2' },
      samples: { type: 'string', default: '1000' },
      output: { type: 'string' },
    },
  });
  const { password: _shown, ...seeded } = await seedUsers({
    environment: { ...process.env, ...(values.database === undefined ? {} : { DATABASE_URL: values.database }) },
    users: Number(values.users),
    sessionsPerUser: Number(values.sessions),
    auditEventsPerUser: Number(values['audit-events']),
    samples: Number(values.samples),
    report: console.log,
  });
  const rows = Object.values(seeded.rows).reduce((sum, count) => sum + count, 0);
  const rate = Math.round(rows / seeded.seconds).toLocaleString('en');
  console.log(`${rows.toLocaleString('en')} rows in ${seeded.seconds.toFixed(0)} s, ${rate} a second`);
  // The live tokens of real sessions, so for nobody else to read.
  if (values.output !== undefined)
    writeFileSync(values.output, JSON.stringify({ password, ...seeded }), { mode: 0o600 });
}

if (import.meta.main) await main();
