import { type Dialect, PostgresDialect, type PostgresPoolClient } from 'kysely';
import pg from 'pg';
import { DatabaseBusyError, markAsConnectionError, markAsUnavailable } from './failures.ts';
import { MissingPasswordError, readPostgresUrl, readTlsOptions } from './postgres-url.ts';

/** Whose connections they are: those of requests, or the one on which a start brings the tables up to date. */
type Purpose = 'requests' | 'migration';

export type PostgresOptions = {
  purpose: Purpose;
  maxConnections: number;
  onConnectionError: (error: Error) => void;
};

/** How many connections are used at this moment, how many are idle, and how many callers wait for one. */
export type PoolState = { used: number; idle: number; waiting: number };

const connectionLimits = {
  connectionTimeoutMillis: 5_000,
  idleTimeoutMillis: 30_000,
  // So that a name or a pooler that leads elsewhere by now is noticed also where nothing fails.
  maxLifetimeSeconds: 600,
  keepAlive: true,
  keepAliveInitialDelayMillis: 10_000,
};
// The server gives up first, so that a slow statement ends there too, and its locks are gone by the time that the
// caller is told. A pooler may refuse or forget these, so a migration sets its own in its transaction.
const sessionLimits = {
  statement_timeout: 9_000,
  lock_timeout: 5_000,
  idle_in_transaction_session_timeout: 9_000,
};
// For a server that does not answer at all; costs the connection.
const answerLimit = { query_timeout: 10_000 };
const waitingPerConnection = 50;
// A whole pool is replaced no more often than this: a server may be read-only for hours.
const replacementPauseMs = 1_000;
// The server ended the session, or it is a standby by now. The next connection may lead to the new primary.
const lostServerState = /^(?:08...|57P0[123]|25006)$/;
const readOnlyState = '25006';
// PostgreSQL's type number for int8, which is also what count() returns; every value here stays below 2^53.
const int8TypeId = 20;

/** A Kysely dialect over a pool of PostgreSQL connections, none of which is used again after it failed. */
export function createPostgresDialect(
  url: string,
  options: PostgresOptions,
): { dialect: Dialect; poolState: () => PoolState } {
  const { poolState, ...pool } = createGuardedPool(url, options);
  return { dialect: new PostgresDialect({ pool: { options: {}, ...pool } }), poolState };
}

function createGuardedPool(url: string, { purpose, maxConnections, onConnectionError }: PostgresOptions) {
  const pool = new pg.Pool({ ...readPoolConfig(url, purpose), max: maxConnections, types: { getTypeParser } });
  const bornIn = new WeakMap<pg.PoolClient, number>();
  let generation = 0;
  let replacedAtMs = Number.NEGATIVE_INFINITY;
  // A connection can be cut at any time, idle or between two statements of a transaction, and the event of
  // one without a listener would end the process. So each has its own, and the pool need not tell again.
  pool.on('connect', (client) => {
    bornIn.set(client, generation);
    client.on('error', onConnectionError);
  });
  pool.on('error', () => {});

  // A server that turned into a standby keeps the idle connections, and each would cost one more request.
  function replaceAll(): void {
    if (performance.now() - replacedAtMs < replacementPauseMs) return;
    replacedAtMs = performance.now();
    generation += 1;
  }

  async function connect(): Promise<PostgresPoolClient> {
    if (pool.waitingCount >= maxConnections * waitingPerConnection) {
      throw new DatabaseBusyError('too many wait for a connection to PostgreSQL');
    }
    try {
      for (;;) {
        const client = await pool.connect();
        if (bornIn.get(client) === generation) return discardAfterFailure(client, replaceAll);
        client.release(true);
      }
    } catch (error) {
      throw markAsUnavailable(error);
    }
  }

  return {
    connect,
    end: () => pool.end(),
    poolState: (): PoolState => ({
      used: pool.totalCount - pool.idleCount,
      idle: pool.idleCount,
      waiting: pool.waitingCount,
    }),
  };
}

function readPoolConfig(url: string, purpose: Purpose): pg.PoolConfig {
  return {
    ...readConnectionConfig(url),
    ...connectionLimits,
    ...(purpose === 'requests' ? answerLimit : {}),
    ...(purpose === 'requests' && !readPostgresUrl(url).isPooled ? sessionLimits : {}),
  };
}

/** Says where a URL leads and how, in the driver's terms. */
export function readConnectionConfig(url: string) {
  const target = readPostgresUrl(url);
  return {
    host: target.host,
    port: target.port,
    user: target.user,
    password: target.password ?? missPassword,
    database: target.database,
    ssl: readTlsOptions(target),
    application_name: target.applicationName,
    options: target.options,
  };
}

/** Is called only when the server asks; without it the driver would look into PGPASSWORD and ~/.pgpass. */
function missPassword(): never {
  throw new MissingPasswordError('the server asks for a password');
}

/**
 * Lets a client be used until the server fails to answer. What was sent may still be carried out later: were
 * it a BEGIN, the next user's statements would land in a transaction that nobody commits. So nothing is sent
 * behind it, and the pool throws the connection away.
 */
function discardAfterFailure(client: pg.PoolClient, onReadOnly: () => void): PostgresPoolClient {
  let failure: unknown;
  let isLost = false;
  const query = async (text: string, parameters: readonly unknown[]) => {
    // The rollback that follows gets the same error, so that the cause is what the log shows.
    if (failure !== undefined) throw failure;
    try {
      return await client.query(text, [...parameters]);
    } catch (error) {
      if (error instanceof pg.DatabaseError) {
        if (lostServerState.test(error.code ?? '')) isLost = true;
        if (error.code === readOnlyState) onReadOnly();
        throw error;
      }
      failure = markAsConnectionError(error);
      throw failure;
    }
  };
  return {
    // Kysely's type also takes a cursor, which only streaming uses.
    query: query as unknown as PostgresPoolClient['query'],
    release: (destroy) => client.release(destroy || isLost || failure !== undefined),
  };
}

// Given to this pool alone rather than set for the whole process.
const getTypeParser = ((typeId: number, format?: 'text' | 'binary') =>
  typeId === int8TypeId ? Number : pg.types.getTypeParser(typeId, format as 'text')) as typeof pg.types.getTypeParser;
