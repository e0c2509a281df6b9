import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import { createKeyring } from '../../src/crypto/secrets.ts';
import { type Database, openDatabase } from '../../src/db/database.ts';
import { openMail } from '../../src/mail/sealed-mail.ts';
import { tagOf } from './ledger.ts';
import { topicOf } from './post-office.ts';

/** What the database holds, read by somebody else than the program. */
export type Stored = Awaited<ReturnType<typeof readStored>>;

/** Reads what the ledger can be held against, with the events from a time on, and asks the database whether it is sound. */
export async function readStored(databaseUrl: string, secretKey: string, sinceMs: number) {
  // Opened anew each time: a connection that was open across a kill would keep SQLite's index of the log alive, and the
  // program would be spared the recovery that is to be tested.
  return onDatabase(databaseUrl, async (database) => {
    const { db } = database;
    const columns = ['id', 'type', 'user_id', 'user_agent'] as const;
    const [users, sessions, userRoles, devices, events, outbox] = await Promise.all([
      db.selectFrom('users').selectAll().execute(),
      db.selectFrom('sessions').select(['id', 'user_id', 'generation', 'user_agent']).execute(),
      db.selectFrom('user_roles').selectAll().execute(),
      db.selectFrom('known_devices').select('user_id').execute(),
      db.selectFrom('audit_events').select(columns).where('occurred_at', '>=', sinceMs).execute(),
      db.selectFrom('outbox').selectAll().execute(),
    ]);
    const keyring = createKeyring([secretKey]);
    return {
      users,
      sessions: sessions.map((row) => ({ ...row, tag: tagOf(row.user_agent) })),
      userRoles,
      devices,
      events: events.map((row) => ({ ...row, tag: tagOf(row.user_agent) })),
      // A mail that cannot be opened throws here.
      mails: outbox.map((row) => {
        const { to, subject } = openMail(keyring, row.id, row.sealed_message);
        return { id: row.id, to, topic: topicOf(subject), attempts: row.attempts, expiresAtMs: row.expires_at };
      }),
      faults: await listFaults(database),
    };
  });
}

/** Waits until every mail has been delivered, but for those that a process that died had begun with. */
export function untilMailIsDelivered(databaseUrl: string, interrupted: ReadonlyMap<string, unknown>): Promise<void> {
  return onDatabase(databaseUrl, async ({ db }) => {
    const giveUpAtMs = performance.now() + deliveryLimitMs;
    for (;;) {
      const rows = await db.selectFrom('outbox').select('id').execute();
      const waiting = rows.filter(({ id }) => !interrupted.has(id));
      if (waiting.length === 0) return;
      if (performance.now() > giveUpAtMs) throw new Error(`${waiting.length} mails were not delivered`);
      await sleep(10);
    }
  });
}

async function onDatabase<T>(url: string, use: (database: Database) => Promise<T>): Promise<T> {
  const database = await openDatabase(url, () => {});
  try {
    return await use(database);
  } finally {
    await database.close();
  }
}

// A delivery that failed is tried again after growing pauses.
const deliveryLimitMs = 30_000;
const children = ['sessions', 'user_roles', 'known_devices', 'pending_email_changes', 'outbox'];

async function listFaults({ db, dialect }: Database): Promise<unknown[]> {
  if (dialect === 'sqlite') {
    const integrity = await sql<{ integrity_check: string }>`pragma integrity_check`.execute(db);
    const keys = await sql`pragma foreign_key_check`.execute(db);
    return [...integrity.rows.filter((row) => row.integrity_check !== 'ok'), ...keys.rows];
  }
  const orphans = children.map(async (table) => {
    const { rows } = await sql`select ${table} as "table", user_id from ${sql.table(table)} as child
      where user_id is not null and not exists (select 1 from users where users.id = child.user_id)`.execute(db);
    return rows;
  });
  return (await Promise.all(orphans)).flat();
}
