import { setTimeout as sleep } from 'node:timers/promises';
import { mayPass } from './failures.ts';

/** For how long a start waits for its database, and who is told. */
export type StartWait = {
  /** 0: not at all. */
  limitSeconds: number;
  /** Told at once and then every few seconds why it still waits, and for how much longer at most. */
  onWait: (error: unknown, secondsLeft: number) => void;
};

const pauseMs = 500;
const tellEveryMs = 5_000;

/** The database did not come while it was waited for; the cause is the last attempt's. */
export class DatabaseAbsentError extends Error {
  override readonly name = 'DatabaseAbsentError';
  readonly waitedSeconds: number;

  constructor(waitedSeconds: number, cause: unknown) {
    super(`the database did not come within ${waitedSeconds} seconds`, { cause });
    this.waitedSeconds = waitedSeconds;
  }
}

/**
 * Opens the database, again and again while what is wrong may pass by itself: services are started in any order.
 * What needs somebody's hand, such as a wrong password, fails at once.
 */
export async function waitForDatabase<T>(open: () => Promise<T>, { limitSeconds, onWait }: StartWait): Promise<T> {
  const startedAtMs = performance.now();
  const giveUpAtMs = startedAtMs + limitSeconds * 1000;
  let tellAtMs = startedAtMs;
  for (;;) {
    try {
      return await open();
    } catch (error) {
      if (limitSeconds === 0 || !mayPass(error)) throw error;
      const nowMs = performance.now();
      if (nowMs + pauseMs > giveUpAtMs) throw new DatabaseAbsentError(Math.round((nowMs - startedAtMs) / 1000), error);
      if (nowMs >= tellAtMs) {
        onWait(error, Math.ceil((giveUpAtMs - nowMs) / 1000));
        tellAtMs = nowMs + tellEveryMs;
      }
    }
    await sleep(pauseMs);
  }
}
