import { LatchkeyError } from './latchkey-error.ts';

/** The longest time that a timer can count, in milliseconds; beyond it, timers fire at once. */
const longestTimerMs = 2 ** 31 - 1;

/** What a caller may say about any call. */
export type CallOptions = {
  /** Gives the call up; it then rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** How long the whole call may take, waiting for a refresh included, in milliseconds. */
  timeoutMs?: number | undefined;
};

/** The end of a call: its signal, and what it rejects with once that has fired. */
export type Deadline = { signal: AbortSignal; reason(): unknown };

/** Sets the time limit of a call and joins it with the caller's own signal. */
export function startDeadline({ signal, timeoutMs }: CallOptions, defaultTimeoutMs: number): Deadline {
  const limitMs = timeoutMs ?? defaultTimeoutMs;
  requireTimeLimit(limitMs);
  const limit = AbortSignal.timeout(limitMs);
  return {
    signal: signal === undefined ? limit : AbortSignal.any([signal, limit]),
    // The caller's own reason is the caller's to recognise; only running out of time is ours to name.
    reason: () => (signal?.aborted ? signal.reason : new LatchkeyError('timeout', `no answer within ${limitMs} ms`)),
  };
}

/** Refuses a time limit that a timer cannot keep. */
export function requireTimeLimit(limitMs: number): void {
  if (!Number.isInteger(limitMs) || limitMs < 1 || limitMs > longestTimerMs) {
    throw new RangeError(`a time limit is a whole number of milliseconds from 1 to ${longestTimerMs}`);
  }
}

/** Waits for work that others wait for too: whoever gives up leaves, and the work goes on. */
export function waitUntil<Result>(work: Promise<Result>, { signal, reason }: Deadline): Promise<Result> {
  return new Promise((resolve, reject) => {
    const leave = () => reject(reason());
    if (signal.aborted) leave();
    signal.addEventListener('abort', leave, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave));
  });
}
