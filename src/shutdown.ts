import type { Deps } from './deps.ts';

/** What is closed before the deps, in this order. */
type Closing = { stopServing(drainLimitMs: number): Promise<void>; stopWorking(): Promise<void> };

const drainLimitMs = 5_000;
// Under the ten seconds after which container engines kill.
const exitLimitMs = 9_000;
const stopSignals = ['SIGTERM', 'SIGINT'] as const;

/**
 * Ends the process at once, with exit code 0, at a signal that comes while it starts: nobody has been served, and
 * the databases undo what is half done. As the first process of a container it has no default action for signals.
 */
export function exitOnSignals(): void {
  for (const signal of stopSignals) process.on(signal, exitAtOnce);
}

function exitAtOnce(signal: NodeJS.Signals): void {
  console.error(`${signal} came before Latchkey was ready, so it ends.`);
  process.exit(0);
}

/**
 * Ends the process at SIGTERM or SIGINT with exit code 0: what is under way finishes first, but nothing that
 * hangs, be it a client, a mail server or the database, holds it up for longer than the limits.
 */
export function stopOnSignals(deps: Deps, { stopServing, stopWorking }: Closing): void {
  const { log } = deps;
  const stop = async (signal: NodeJS.Signals): Promise<void> => {
    // npm passes on a signal that the terminal has sent already.
    if (deps.isStopping()) return;
    deps.beginStopping();
    log.info({ signal }, 'stopping: finishing what is under way');
    setTimeout(() => {
      log.warn('stopping took too long; what still hangs is left');
      process.exit(0);
    }, exitLimitMs);
    try {
      await stopServing(drainLimitMs);
      await stopWorking();
      await deps.close();
    } catch (error) {
      log.error({ err: error }, 'something could not be closed');
    }
    process.exit(0);
  };
  for (const signal of stopSignals) {
    // In this order: without any listener in between a signal on its way would be lost.
    process.on(signal, stop);
    process.off(signal, exitAtOnce);
  }
}
