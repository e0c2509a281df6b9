import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import {
  CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  type QueryResult,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from 'kysely';

const busyTimeoutMs = 5_000;
// The service has a few dozen queries; the bound only matters if one were built with a varying text.
const maxPreparedStatements = 500;

/** A Kysely dialect over Node's built-in SQLite: one connection, prepared statements kept. */
export function createSqliteDialect(path: string): Dialect {
  return {
    createDriver: () => createSqliteDriver(path),
    createQueryCompiler: () => new SqliteQueryCompiler(),
    createAdapter: () => new TransactionalDdlAdapter(),
    createIntrospector: (db) => new SqliteIntrospector(db),
  };
}

/** SQLite's schema changes are transactional, so a migration that fails halfway leaves nothing behind. */
class TransactionalDdlAdapter extends SqliteAdapter {
  override get supportsTransactionalDdl(): boolean {
    return true;
  }
}

function createSqliteDriver(path: string): Driver {
  let database: DatabaseSync | undefined;
  let connection: DatabaseConnection | undefined;
  const run = (query: string) => (target: DatabaseConnection) =>
    target.executeQuery(CompiledQuery.raw(query)).then(noValue);

  return {
    async init() {
      database = openSqliteFile(path);
      connection = createConnection(database);
    },
    // Kysely hands the one connection out to one caller at a time.
    async acquireConnection() {
      if (connection === undefined) throw new Error('the SQLite driver was used before it was initialised');
      return connection;
    },
    async releaseConnection() {},
    // IMMEDIATE takes the write lock at the start, where the busy timeout applies. A deferred
    // transaction that turns from reading to writing would fail at once when another process writes.
    beginTransaction: run('begin immediate'),
    commitTransaction: run('commit'),
    rollbackTransaction: run('rollback'),
    async destroy() {
      database?.close();
    },
  };
}

function openSqliteFile(path: string): DatabaseSync {
  const database = new DatabaseSync(path, { timeout: busyTimeoutMs, enableForeignKeyConstraints: true });
  database.exec('pragma journal_mode = wal');
  // FULL makes every commit wait for the disk: an acknowledged write survives a loss of power.
  database.exec('pragma synchronous = full');
  return database;
}

function createConnection(database: DatabaseSync): DatabaseConnection {
  const statements = new Map<string, StatementSync>();

  function prepare(sql: string): StatementSync {
    const known = statements.get(sql);
    if (known !== undefined) return known;
    if (statements.size >= maxPreparedStatements) statements.clear();
    const statement = database.prepare(sql);
    statements.set(sql, statement);
    return statement;
  }

  return {
    async executeQuery<Row>({ sql, parameters }: CompiledQuery): Promise<QueryResult<Row>> {
      const statement = prepare(sql);
      // Kysely types parameters as unknown; the schema holds only text, numbers and null.
      const values = parameters as readonly SQLInputValue[];
      if (statement.columns().length > 0) return { rows: statement.all(...values) as Row[] };
      const { changes } = statement.run(...values);
      return { rows: [], numAffectedRows: BigInt(changes) };
    },
    // biome-ignore lint/correctness/useYield: Kysely wants a generator; nothing here streams.
    async *streamQuery() {
      throw new Error('streaming is not supported on SQLite');
    },
  };
}

function noValue(): void {}
