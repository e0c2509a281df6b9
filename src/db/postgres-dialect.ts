import { type Dialect, PostgresDialect, type PostgresPoolClient } from 'kysely';
import pg from 'pg';
import { markAsConnectionError } from './failures.ts';

const limits = {
  max: 10,
  connectionTimeoutMillis: 5_000,
  idleTimeoutMillis: 30_000,
  // The server gives up first, so that a slow statement ends there too. The client's own limit is for a
  // server that does not answer at all, and costs the connection.
  statement_timeout: 9_000,
  query_timeout: 10_000,
  idle_in_transaction_session_timeout: 15_000,
};
// PostgreSQL's type number for int8, which is also what count() returns; every value here stays below 2^53.
const int8TypeId = 20;

/** A Kysely dialect over a pool of PostgreSQL connections, none of which is used again after it failed. */
export function createPostgresDialect(url: string, onConnectionError: (error: Error) => void): Dialect {
  const pool = new pg.Pool({ ...limits, connectionString: url, types: { getTypeParser } });
  // A connection can be cut at any time, idle or between two statements of a transaction, and the event of
  // one without a listener would end the process. So each has its own, and the pool need not tell again.
  pool.on('connect', (client) => client.on('error', onConnectionError));
  pool.on('error', () => {});
  return new PostgresDialect({
    pool: {
      options: {},
      end: () => pool.end(),
      async connect() {
        try {
          return discardAfterFailure(await pool.connect());
        } catch (error) {
          throw markAsConnectionError(error);
        }
      },
    },
  });
}

/**
 * Lets a client be used until the server fails to answer. What was sent may still be carried out later: were
 * it a BEGIN, the next user's statements would land in a transaction that nobody commits. So nothing is sent
 * behind it, and the pool throws the connection away.
 */
function discardAfterFailure(client: pg.PoolClient): PostgresPoolClient {
  let failure: unknown;
  const query = async (text: string, parameters: readonly unknown[]) => {
    // The rollback that follows gets the same error, so that the cause is what the log shows.
    if (failure !== undefined) throw failure;
    try {
      return await client.query(text, [...parameters]);
    } catch (error) {
      if (error instanceof pg.DatabaseError) throw error;
      failure = markAsConnectionError(error);
      throw failure;
    }
  };
  return {
    // Kysely's type also takes a cursor, which only streaming uses.
    query: query as unknown as PostgresPoolClient['query'],
    release: (destroy) => client.release(destroy || failure !== undefined),
  };
}

// Given to this pool alone rather than set for the whole process.
const getTypeParser = ((typeId: number, format?: 'text' | 'binary') =>
  typeId === int8TypeId ? Number : pg.types.getTypeParser(typeId, format as 'text')) as typeof pg.types.getTypeParser;
