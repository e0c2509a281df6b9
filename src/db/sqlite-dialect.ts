import { closeSync, openSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
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
import { isSqliteBusy } from './failures.ts';
import { type CommitGroup, createSqliteGroups, type SqliteGroups } from './sqlite-groups.ts';
import { createStatements, isReading, type RunStatement } from './sqlite-statements.ts';
import { createSqliteTurns, retryWhileBusy, type SqliteTurns } from './sqlite-turns.ts';

type SqliteOptions = {
  /** Makes no file and takes no lock that a writer would notice. */
  isReadOnly?: boolean;
  /** Commits what is written in one turn of the event loop together. Without it every unit is committed by itself. */
  commitsInGroups?: boolean;
};

/**
 * A Kysely dialect over Node's built-in SQLite: one handle that writes, one that reads what is committed, prepared
 * statements kept, one wait for the disk for all that is written in a turn of the event loop, and no wait that blocks.
 */
export function createSqliteDialect(
  path: string,
  { isReadOnly = false, commitsInGroups = !isReadOnly }: SqliteOptions = {},
): Dialect {
  return {
    createDriver: () => createSqliteDriver(() => openFile(path, { isReadOnly, commitsInGroups })),
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

/** What is open: the handle that writes, who may use it now, what it will commit, and how committed rows are read. */
type OpenFile = {
  turns: SqliteTurns;
  groups: SqliteGroups;
  run: RunStatement;
  /** Undefined where there is one handle only: in memory, and where nothing is written. */
  readCommitted: RunStatement | undefined;
  close(): void;
};

function createSqliteDriver(open: () => Promise<OpenFile>): Driver {
  let file: OpenFile | undefined;
  // The group of each connection that has begun a transaction.
  const groupOf = new WeakMap<DatabaseConnection, CommitGroup>();

  function opened(): OpenFile {
    if (file === undefined) throw new Error('the SQLite driver was used before it was initialised');
    return file;
  }

  function transactionOf(connection: DatabaseConnection): CommitGroup {
    const group = groupOf.get(connection);
    if (group === undefined) throw new Error('the connection has begun no transaction');
    return group;
  }

  return {
    async init() {
      file = await open();
    },
    acquireConnection: async () => createConnection(opened(), groupOf),
    async releaseConnection() {},
    async beginTransaction(connection) {
      const { turns, groups } = opened();
      await turns.begin(connection, () => {
        const group = groups.enter();
        groups.beginUnit(group);
        groupOf.set(connection, group);
      });
    },
    async commitTransaction(connection) {
      const { turns, groups } = opened();
      const group = transactionOf(connection);
      groups.endUnit(group, true);
      turns.end(connection);
      await group.settled;
    },
    async rollbackTransaction(connection) {
      const { turns, groups } = opened();
      const group = transactionOf(connection);
      try {
        // A full disk makes SQLite roll back by itself, and a second time would fail and hide why.
        if (group === groups.current()) {
          groups.undoUnit(group);
          groups.endUnit(group, false);
        }
      } finally {
        turns.end(connection);
      }
      // Who is refused may have read what another unit wrote. If that is undone, so is the reason: the error says so.
      await group.settled;
    },
    async destroy() {
      file?.close();
    },
  };
}

async function openFile(path: string, { isReadOnly, commitsInGroups }: Required<SqliteOptions>): Promise<OpenFile> {
  const database = isReadOnly ? openForReading(path) : await openForWriting(path);
  const reader = isReadOnly ? undefined : openReader(database);
  const groups = createSqliteGroups(database, { isReadOnly, isShared: commitsInGroups });
  return {
    turns: createSqliteTurns(),
    groups,
    run: createStatements(database),
    readCommitted: reader && createStatements(reader),
    close() {
      groups.close();
      // The last handle to go brings the log into the file, which one that only reads cannot.
      reader?.close();
      database.close();
    },
  };
}

async function openForWriting(path: string): Promise<DatabaseSync> {
  if (path !== ':memory:') createPrivately(path);
  // SQLite's own wait would stop the event loop.
  const database = new DatabaseSync(path, { timeout: 0, enableForeignKeyConstraints: true });
  await retryWhileBusy(async () => database.exec('pragma journal_mode = wal'));
  // FULL makes every commit wait for the disk: an acknowledged write survives a loss of power.
  database.exec('pragma synchronous = full');
  return database;
}

function openForReading(path: string): DatabaseSync {
  return new DatabaseSync(path, { timeout: 0, readOnly: true });
}

/** Opens the second handle of a file, which sees what is committed and nothing else. What is in memory has none. */
function openReader(database: DatabaseSync): DatabaseSync | undefined {
  const path = database.location();
  if (path === null) return undefined;
  try {
    return openForReading(path);
  } catch (error) {
    database.close();
    throw error;
  }
}

/** Makes a missing file readable by its owner alone; SQLite gives its -wal and -shm the same mode. */
function createPrivately(path: string): void {
  try {
    closeSync(openSync(path, 'wx', 0o600));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

/** One user of the handles: a statement by itself, or the owner of a transaction. */
function createConnection(file: OpenFile, groupOf: WeakMap<DatabaseConnection, CommitGroup>): DatabaseConnection {
  const { turns, groups, run, readCommitted } = file;
  const connection: DatabaseConnection = {
    executeQuery<Row>(query: CompiledQuery): Promise<QueryResult<Row>> {
      const group = turns.isOwner(connection) ? groupOf.get(connection) : undefined;
      if (group !== undefined) return turns.take(connection, () => groups.run(group, () => run<Row>(query)));
      if (!isReading(query)) return writeAlone<Row>(file, connection, query);
      if (readCommitted !== undefined) return retryIfBusy(() => readCommitted<Row>(query));
      return readAlone<Row>(file, connection, query);
    },
    // biome-ignore lint/correctness/useYield: Kysely wants a generator; nothing here streams.
    async *streamQuery() {
      throw new Error('streaming is not supported on SQLite');
    },
  };
  return connection;
}

/** Runs a statement that may write as a unit of its own, and answers when that is on the disk. */
async function writeAlone<Row>(
  { turns, groups, run }: OpenFile,
  connection: DatabaseConnection,
  query: CompiledQuery,
): Promise<QueryResult<Row>> {
  const { group, outcome } = await turns.take(connection, () => {
    const group = groups.enter();
    const outcome = attempt(() => groups.run(group, () => run<Row>(query)));
    if (group === groups.current()) groups.endUnit(group, 'result' in outcome);
    return { group, outcome };
  });
  // Also a refusal waits: what stood in its way, as the other of two equal addresses, may yet be undone.
  await group.settled;
  if ('result' in outcome) return outcome.result;
  throw outcome.error;
}

/** Reads on the one handle there is, and answers when what it may have seen of others is committed. */
async function readAlone<Row>(
  { turns, groups, run }: OpenFile,
  connection: DatabaseConnection,
  query: CompiledQuery,
): Promise<QueryResult<Row>> {
  const { group, result } = await turns.take(connection, () => ({ group: groups.current(), result: run<Row>(query) }));
  await group?.settled;
  return result;
}

function attempt<T>(step: () => T): { result: T } | { error: unknown } {
  try {
    return { result: step() };
  } catch (error) {
    return { error };
  }
}

async function retryIfBusy<T>(step: () => T): Promise<T> {
  try {
    // Nearly always this is all there is to it.
    return step();
  } catch (error) {
    if (!isSqliteBusy(error)) throw error;
  }
  return retryWhileBusy(async () => step());
}
