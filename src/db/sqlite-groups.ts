import type { DatabaseSync } from 'node:sqlite';
import { DatabaseBusyError, isSqliteIoError } from './failures.ts';

// Far more than come in one turn. It bounds what waits for one commit, and what is lost with it.
const maxUnitsPerGroup = 256;
// What a write waits for others at most while every turn of the event loop brings more. About what the disk takes.
const gatheringLimitMs = 5;
// Others wait for a transaction that waits for something outside of the database; without end if that waits for them.
const heldLimitMs = 10_000;

/**
 * What is committed together: one transaction of SQLite, whose units are kept as a whole or lost as a whole. A unit is a
 * transaction of ours, which is a savepoint in it, or a single statement.
 */
export type CommitGroup = {
  /** Resolves when the group is on the disk; rejects with what undid it. Before that nobody is told anything of it. */
  settled: Promise<void>;
};

export type SqliteGroups = {
  /** The group that is open now, whose writes may yet be undone. */
  current(): CommitGroup | undefined;
  /** Returns the open group, or opens one. Throws what SQLite says when another process holds the lock. */
  enter(): CommitGroup;
  /** Runs a step of a unit. Throws when the group has ended, and ends it when SQLite has undone it. */
  run<T>(group: CommitGroup, step: () => T): T;
  /** Begins a transaction in the group, which is not committed before that has ended. One at a time. */
  beginUnit(group: CommitGroup): void;
  /** Takes back what the transaction has done so far, and nobody else's work. It is still to be ended. */
  undoUnit(group: CommitGroup): void;
  /** Ends a transaction or a single statement; `keeps` says whether it leaves anything to commit. */
  endUnit(group: CommitGroup, keeps: boolean): void;
  /** Commits what is open, without a transaction that has not ended. */
  close(): void;
};

type GroupsOptions = {
  isReadOnly: boolean;
  /** Whether a group takes in what comes in one turn of the event loop, or one unit only. */
  isShared: boolean;
  nowMs?: () => number;
};

type OpenGroup = CommitGroup & {
  resolve(): void;
  reject(error: unknown): void;
  units: number;
  keepsAny: boolean;
  /** How many there were at the end of the last turn. */
  unitsBefore: number;
  openedAtMs: number;
  hasOpenUnit: boolean;
  /** It is committed as soon as no transaction is open in it. */
  isDue: boolean;
  heldTimer: NodeJS.Timeout | undefined;
};

/**
 * Creates the groups of one handle. One commit costs one wait for the disk, on the thread of the event loop; so it is
 * shared by all that was written in one turn of that loop.
 */
export function createSqliteGroups(
  database: DatabaseSync,
  { isReadOnly, isShared, nowMs = () => performance.now() }: GroupsOptions,
): SqliteGroups {
  let open: OpenGroup | undefined;

  function enter(): CommitGroup {
    if (open !== undefined) return open;
    // IMMEDIATE takes the write lock at the start. A deferred transaction that turns from reading to
    // writing fails at once when another process writes, and only the whole of it could be repeated.
    database.exec(isReadOnly ? 'begin' : 'begin immediate');
    const group = newGroup(nowMs());
    open = group;
    if (!isShared) group.isDue = true;
    // Immediates run when all that the poll of sockets has brought was handled.
    else setImmediate(() => endTurn(group));
    return group;
  }

  function endTurn(group: OpenGroup): void {
    if (group !== open) return;
    const hasGrown = group.units > group.unitsBefore;
    group.unitsBefore = group.units;
    // New connections are accepted one in a turn, so a crowd comes in many.
    if (hasGrown && !group.hasOpenUnit && nowMs() < group.openedAtMs + gatheringLimitMs) {
      setImmediate(() => endTurn(group));
      return;
    }
    group.isDue = true;
    if (!group.hasOpenUnit) settle(group);
    // Where it is alone nobody waits for it here.
    else if (group.units > 0) group.heldTimer = setTimeout(() => settleWithoutOpenUnit(group), heldLimitMs);
  }

  function settleWithoutOpenUnit(group: OpenGroup): void {
    try {
      if (group.hasOpenUnit) database.exec('rollback to unit');
      settle(group);
    } catch (error) {
      abandon(group, error);
    }
  }

  function settle(group: OpenGroup): void {
    open = undefined;
    clearTimeout(group.heldTimer);
    try {
      // The pages of what was taken back would be written all the same, and waited for.
      database.exec(group.keepsAny ? 'commit' : 'rollback');
      group.resolve();
    } catch (error) {
      abandon(group, error);
    }
  }

  /** Ends a group of which nothing is kept. */
  function abandon(group: OpenGroup, error: unknown): void {
    open = undefined;
    clearTimeout(group.heldTimer);
    undo(database, error);
    group.reject(error);
  }

  function membership(group: CommitGroup): OpenGroup {
    // Were SQLite to have ended the transaction by itself, what follows would be kept although the rest is gone.
    if (open === undefined || group !== open) throw new DatabaseBusyError('the transaction was rolled back by SQLite');
    return open;
  }

  function run<T>(member: CommitGroup, step: () => T): T {
    const group = membership(member);
    try {
      return step();
    } catch (error) {
      // A full or failing disk makes SQLite roll back everything, also what other units had finished.
      if (!database.isTransaction) abandon(group, error);
      throw error;
    }
  }

  return {
    current: () => open,
    enter,
    run,
    beginUnit(member) {
      run(member, () => database.exec('savepoint unit'));
      membership(member).hasOpenUnit = true;
    },
    undoUnit(member) {
      if (member === open) run(member, () => database.exec('rollback to unit'));
    },
    endUnit(member, keeps) {
      const group = membership(member);
      if (group.hasOpenUnit) run(member, () => database.exec('release unit'));
      group.hasOpenUnit = false;
      group.keepsAny ||= keeps;
      group.units += 1;
      if (group.isDue || group.units >= maxUnitsPerGroup) settle(group);
    },
    close() {
      if (open !== undefined) settleWithoutOpenUnit(open);
    },
  };
}

function newGroup(openedAtMs: number): OpenGroup {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  // Whoever has a part in it waits for it; that nobody is left to wait must not end the process.
  promise.catch(() => {});
  const state = { units: 0, unitsBefore: 0, keepsAny: false, hasOpenUnit: false, isDue: false, heldTimer: undefined };
  return { settled: promise, resolve, reject, openedAtMs, ...state };
}

/**
 * Makes sure that what is refused does not happen after all. When the disk fails at the end of a commit SQLite rolls
 * back, but the pages stand in the log already, marked as committed, and the next start would carry them out. The next
 * commit is written in their place and makes whatever is left of them unreadable; so there is one at once, which
 * changes nothing. That it reaches the disk is not needed: what it replaces did not either.
 */
function undo(database: DatabaseSync, error: unknown): void {
  try {
    if (database.isTransaction) database.exec('rollback');
    if (isSqliteIoError(error)) rewriteUserVersion(database);
  } catch {
    // The disk fails still, as the error that is reported already says.
  }
}

function rewriteUserVersion(database: DatabaseSync): void {
  const { user_version: version } = database.prepare('pragma user_version').get() ?? {};
  database.exec(`pragma user_version = ${Number(version)}`);
}
