import { closeSync, openSync } from 'node:fs';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import {
  type CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  type QueryResult,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from 'kysely';
import { DatabaseBusyError, isSqliteIoError } from './failures.ts';
import { createSqliteTurns, retryWhileBusy, type SqliteTurns } from './sqlite-turns.ts';

// The service has a few dozen queries; the bound only matters if one were built with a varying text.
const maxPreparedStatements = 500;

/** `isReadOnly`: the file must be there, and nothing about it is changed. */
type SqliteOptions = { isReadOnly?: boolean };

/** A Kysely dialect over Node's built-in SQLite: one handle, prepared statements kept, and no wait that blocks. */
export function createSqliteDialect(path: string, { isReadOnly = false }: SqliteOptions = {}): Dialect {
  return {
    createDriver: () => createSqliteDriver(path, isReadOnly),
    createQueryCompiler: () => new SqliteQueryCompiler(),
    createAdapter: () => new SharedHandleAdapter(),
    createIntrospector: (db) => new SqliteIntrospector(db),
  };
}

class SharedHandleAdapter extends SqliteAdapter {
  // The driver takes turns by itself: Kysely's would let a reader wait behind a writer that waits for a lock.
  override get supportsMultipleConnections(): boolean {
    return true;
  }

  // SQLite's schema changes are transactional, so a migration that fails halfway leaves nothing behind.
  override get supportsTransactionalDdl(): boolean {
    return true;
  }
}

/** What is open: the handle, who may use it now, and the statements that it has prepared. */
type OpenFile = { database: DatabaseSync; turns: SqliteTurns; prepare(sql: string): StatementSync };

function createSqliteDriver(path: string, isReadOnly: boolean): Driver {
  let file: OpenFile | undefined;

  function opened(): OpenFile {
    if (file === undefined) throw new Error('the SQLite driver was used before it was initialised');
    return file;
  }

  return {
    async init() {
      const database = isReadOnly ? new DatabaseSync(path, { readOnly: true, timeout: 0 }) : await openSqliteFile(path);
      file = { database, turns: createSqliteTurns(), prepare: createStatementCache(database) };
    },
    acquireConnection: async () => createConnection(opened()),
    async releaseConnection() {},
    async beginTransaction(connection) {
      const { database, turns } = opened();
      // IMMEDIATE takes the write lock at the start. A deferred transaction that turns from reading to
      // writing fails at once when another process writes, and only the whole of it could be repeated.
      await turns.begin(connection, () => database.exec('begin immediate'));
    },
    async commitTransaction(connection) {
      const { database, turns } = opened();
      await turns.take(connection, () => {
        requireTransaction(database);
        overwriteIfFailed(database, () => database.exec('commit'));
      });
      turns.end(connection);
    },
    async rollbackTransaction(connection) {
      const { database, turns } = opened();
      try {
        // A full disk makes SQLite roll back by itself, and a second time would fail and hide why.
        if (database.isTransaction) database.exec('rollback');
      } finally {
        turns.end(connection);
      }
    },
    async destroy() {
      file?.database.close();
    },
  };
}

async function openSqliteFile(path: string): Promise<DatabaseSync> {
  if (path !== ':memory:') createPrivately(path);
  // SQLite's own wait would stop the event loop.
  const database = new DatabaseSync(path, { timeout: 0, enableForeignKeyConstraints: true });
  await retryWhileBusy(async () => database.exec('pragma journal_mode = wal'));
  // FULL makes every commit wait for the disk: an acknowledged write survives a loss of power.
  database.exec('pragma synchronous = full');
  return database;
}

/** Makes a missing file readable by its owner alone; SQLite gives its -wal and -shm the same mode. */
function createPrivately(path: string): void {
  try {
    closeSync(openSync(path, 'wx', 0o600));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

function createStatementCache(database: DatabaseSync): (sql: string) => StatementSync {
  const statements = new Map<string, StatementSync>();
  return (sql) => {
    const known = statements.get(sql);
    if (known !== undefined) return known;
    if (statements.size >= maxPreparedStatements) statements.clear();
    const statement = database.prepare(sql);
    statements.set(sql, statement);
    return statement;
  };
}

/** One user of the handle: a statement by itself, or the owner of a transaction. */
function createConnection({ database, turns, prepare }: OpenFile): DatabaseConnection {
  const connection: DatabaseConnection = {
    executeQuery: <Row>(query: CompiledQuery): Promise<QueryResult<Row>> =>
      turns.take(connection, () => {
        if (turns.isOwner(connection)) requireTransaction(database);
        return overwriteIfFailed(database, () => runStatement<Row>(prepare(query.sql), query.parameters));
      }),
    // biome-ignore lint/correctness/useYield: Kysely wants a generator; nothing here streams.
    async *streamQuery() {
      throw new Error('streaming is not supported on SQLite');
    },
  };
  return connection;
}

// Were SQLite to have ended the transaction by itself, what follows would be kept although the rest is gone.
function requireTransaction(database: DatabaseSync): void {
  if (!database.isTransaction) throw new DatabaseBusyError('the transaction was rolled back by SQLite');
}

/**
 * Runs a step that may commit, and makes sure that what it refuses does not happen after all. When the disk fails at the
 * end of a commit SQLite rolls back, but the pages stand in the log already, marked as committed, and the next start would
 * carry them out. The next commit is written in their place and makes whatever is left of them unreadable; so there
 * is one at once, which changes nothing. That it reaches the disk is not needed: what it replaces did not either.
 */
function overwriteIfFailed<T>(database: DatabaseSync, step: () => T): T {
  try {
    return step();
  } catch (error) {
    if (isSqliteIoError(error) && !database.isTransaction) rewriteUserVersion(database);
    throw error;
  }
}

function rewriteUserVersion(database: DatabaseSync): void {
  try {
    const { user_version: version } = database.prepare('pragma user_version').get() ?? {};
    database.exec(`pragma user_version = ${Number(version)}`);
  } catch {
    // The disk fails still, as the error that is thrown already says.
  }
}

function runStatement<Row>(statement: StatementSync, parameters: readonly unknown[]): QueryResult<Row> {
  // Kysely types parameters as unknown; the schema holds only text, numbers and null.
  const values = parameters as readonly SQLInputValue[];
  if (statement.columns().length > 0) return { rows: statement.all(...values) as Row[] };
  const { changes } = statement.run(...values);
  return { rows: [], numAffectedRows: BigInt(changes) };
}
