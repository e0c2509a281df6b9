import { join } from 'node:path';
import { newId } from '../src/crypto/ids.ts';
import { type Database, openDatabase } from '../src/db/database.ts';
import type { NewUserRow, OutboxRow, SessionRow } from '../src/db/schema.ts';
import { type Backend, createScratch } from './system.ts';

/** Runs a check with the address of an empty database. */
export async function onEmptyDatabase(backend: Backend, check: (url: string) => Promise<void>): Promise<void> {
  const { environment, remove } = await createScratch(backend);
  try {
    await check(environment.DATABASE_URL ?? `sqlite:${join(environment.DATA_DIR ?? '', 'latchkey.db')}`);
  } finally {
    await remove();
  }
}

/** Runs a check on a database with its tables and nothing else. */
export function onDatabase(backend: Backend, check: (database: Database, url: string) => Promise<void>): Promise<void> {
  return onEmptyDatabase(backend, async (url) => {
    const database = await openDatabase(url, () => {});
    try {
      await check(database, url);
    } finally {
      await database.close();
    }
  });
}

/** The row of a user without a password. */
export function newUser() {
  const id = newId();
  return {
    id,
    email: `${id}@example.com`,
    name: null,
    locale: null,
    metadata: '{}',
    status: 'active',
    password_hash: null,
    created_at: 1,
    updated_at: 1,
    last_login_at: null,
  } as const satisfies NewUserRow;
}

/** The row of a session. */
export function newSession(userId: string): SessionRow {
  const times = { created_at: 1, rotated_at: 1, authenticated_at: 1, idle_expires_at: 1, expires_at: 1 };
  const origin = { client_address: '127.0.0.1', user_agent: null, device_label: null };
  return { id: newId(), user_id: userId, generation: 1, salt: 'salt', ...times, ...origin };
}

/** The row of a mail that waits. */
export function newMail(userId: string): OutboxRow {
  const times = { created_at: 1, expires_at: 1, next_attempt_at: 1 };
  return { id: newId(), user_id: userId, sealed_message: 'sealed', attempts: 0, ...times };
}
