import { setTimeout as sleep } from 'node:timers/promises';
import {
  type ControlledTransaction,
  type Dialect,
  Kysely,
  PostgresAdapter,
  PostgresDriver,
  PostgresIntrospector,
  type PostgresPoolClient,
  PostgresQueryCompiler,
} from 'kysely';
import pg from 'pg';
import { readConnectionConfig } from './postgres-dialect.ts';
import type { Schema } from './schema.ts';

/** One connection to PostgreSQL with one open transaction. */
export type CopyConnection = {
  send: Send;
  /** The same transaction, for what is written with Kysely. */
  tx: ControlledTransaction<Schema>;
  /** Ends the connection, and takes back what was not committed. */
  close(): Promise<void>;
};

/** Sends one statement. What it throws is what went wrong first. */
export type Send = (statement: pg.QueryConfig & Partial<pg.QueryArrayConfig>) => Promise<pg.QueryResult>;

// The limits of a request do not fit: a look at the statistics of a large table takes longer. But none is without end,
// so that neither a server that hangs holds us nor we, if this machine goes away, hold its locks.
const connectTimeoutMs = 10_000;
const statementTimeoutMs = 600_000;
const answerTimeoutMs = statementTimeoutMs + 10_000;
const lockTimeoutMs = 5_000;
const idleInTransactionTimeoutMs = 300_000;
const closeTimeoutMs = 2_000;

/** Connects, and begins the one transaction of the copy. */
export async function openCopyConnection(url: string): Promise<CopyConnection> {
  const client = new pg.Client({
    ...readConnectionConfig(url),
    connectionTimeoutMillis: connectTimeoutMs,
    query_timeout: answerTimeoutMs,
    keepAlive: true,
    application_name: 'latchkey copy-database',
  });
  const send = createSend(client);
  const close = async () => {
    // Who waits longer waits for a server that hangs; it takes everything back when it finds the connection gone.
    await Promise.race([client.end().catch(() => {}), sleep(closeTimeoutMs, undefined, { ref: false })]);
  };
  try {
    await client.connect();
    const tx = await new Kysely<Schema>({ dialect: createDialect(send) }).startTransaction().execute();
    await setLimits(send);
    return { send, tx, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/**
 * What follows a failure fails too, but the server only says that the transaction is aborted, and the driver that the
 * connection is gone. So the first failure is thrown again.
 */
function createSend(client: pg.Client): Send {
  let cause: unknown;
  // Whoever waits for an answer gets the error as well; without a listener it would end the process.
  client.on('error', (error) => {
    cause ??= error;
  });
  return async (statement) => {
    try {
      const result = await client.query(statement);
      // Where a savepoint was gone back to, the failure is over.
      cause = undefined;
      return result;
    } catch (error) {
      if (cause === undefined || !isAftermath(error)) cause = error;
      throw cause;
    }
  };
}

const abortedTransaction = '25P02';

function isAftermath(error: unknown): boolean {
  return !(error instanceof pg.DatabaseError) || error.code === abortedTransaction;
}

/** Overrides what the role, the database or the URL say, which is meant for requests. Older servers lack the last. */
async function setLimits(send: Send): Promise<void> {
  const limits: Record<string, number> = {
    statement_timeout: statementTimeoutMs,
    lock_timeout: lockTimeoutMs,
    idle_in_transaction_session_timeout: idleInTransactionTimeoutMs,
    transaction_timeout: 0,
  };
  const text = `select set_config(name, value, true) from pg_settings
    join unnest($1::text[], $2::text[]) as wanted (name, value) using (name)`;
  await send({ text, values: [Object.keys(limits), Object.values(limits).map(String)] });
}

/** Kysely's own lock waits for an hour and is let go with the last migration. The copy takes one that fits it. */
class LockedAdapter extends PostgresAdapter {
  override async acquireMigrationLock(): Promise<void> {}

  override async releaseMigrationLock(): Promise<void> {}
}

function createDialect(send: Send): Dialect {
  // Kysely's type also takes a cursor, which only streaming uses.
  const query = ((text: string, parameters: readonly unknown[]) =>
    send({ text, values: [...parameters] })) as unknown as PostgresPoolClient['query'];
  const pool = { options: {}, connect: async () => ({ query, release() {} }), end: async () => {} };
  return {
    createDriver: () => new PostgresDriver({ pool }),
    createAdapter: () => new LockedAdapter(),
    createQueryCompiler: () => new PostgresQueryCompiler(),
    createIntrospector: (db) => new PostgresIntrospector(db),
  };
}
