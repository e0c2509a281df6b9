import { setTimeout as sleep } from 'node:timers/promises';
import type { DatabaseConnection } from 'kysely';
import { DatabaseBusyError, isSqliteBusy } from './failures.ts';

// How long a request waits for its turn, be it for a transaction here or for the lock of another process.
const busyTimeoutMs = 5_000;
const maxPauseMs = 20;

/**
 * Who may use the one SQLite handle now. A statement takes no time that anybody could come between, so it
 * needs the handle only when no transaction has it; a transaction has it until it ends. Waiting never blocks
 * the event loop, and a transaction that waits for another process's lock keeps nobody from reading.
 */
export type SqliteTurns = {
  /** Runs a step when the handle is free or already the connection's. */
  take<T>(connection: DatabaseConnection, step: () => T): Promise<T>;
  /** Runs the step that begins a transaction, and gives the connection the handle if it succeeds. */
  begin(connection: DatabaseConnection, step: () => void): Promise<void>;
  /** Ends the connection's transaction and lets those who wait go on, in the order in which they came. */
  end(connection: DatabaseConnection): void;
  isOwner(connection: DatabaseConnection): boolean;
};

/** Creates the turns of one handle. */
export function createSqliteTurns(): SqliteTurns {
  let owner: DatabaseConnection | undefined;
  const waiting = new Set<() => void>();

  function waitForTurn<T>(step: () => T, giveUpAtMs: number): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const run = () => {
      clearTimeout(timer);
      waiting.delete(run);
      try {
        resolve(step());
      } catch (error) {
        reject(error);
      }
    };
    const giveUp = () => {
      waiting.delete(run);
      reject(new DatabaseBusyError('the transactions before this one took too long'));
    };
    const timer = setTimeout(giveUp, giveUpAtMs - performance.now());
    waiting.add(run);
    return promise;
  }

  const isFree = (connection: DatabaseConnection) => owner === undefined || owner === connection;

  async function take<T>(connection: DatabaseConnection, step: () => T): Promise<T> {
    if (isFree(connection)) {
      // Nearly always this is all there is to it.
      try {
        return step();
      } catch (error) {
        if (!isSqliteBusy(error)) throw error;
      }
    }
    return retryWhileBusy(async (giveUpAtMs) => (isFree(connection) ? step() : waitForTurn(step, giveUpAtMs)));
  }

  return {
    take,
    begin: (connection, step) =>
      take(connection, () => {
        step();
        owner = connection;
      }),
    end(connection) {
      if (owner === connection) owner = undefined;
      for (const run of waiting) {
        if (owner !== undefined) break;
        run();
      }
    },
    isOwner: (connection) => owner === connection,
  };
}

/** Repeats what SQLite refuses as busy, until it succeeds or the wait has been long enough. */
export async function retryWhileBusy<T>(attempt: (giveUpAtMs: number) => Promise<T>): Promise<T> {
  const giveUpAtMs = performance.now() + busyTimeoutMs;
  for (let pauseMs = 1; ; pauseMs = Math.min(pauseMs * 2, maxPauseMs)) {
    try {
      return await attempt(giveUpAtMs);
    } catch (error) {
      if (!isSqliteBusy(error) || performance.now() >= giveUpAtMs) throw error;
    }
    await sleep(pauseMs);
  }
}
