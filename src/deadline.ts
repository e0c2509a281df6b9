import { setTimeout as sleep } from 'node:timers/promises';

/** Gives the answer, or rejects when it has not come in time and never before. What was asked may still be done later. */
export async function answerWithin<T>(limitMs: number, answer: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const giveUpAtMs = performance.now() + limitMs;
  let timer = setTimeout(giveUp, limitMs);
  function giveUp(): void {
    const leftMs = giveUpAtMs - performance.now();
    // A timer counts whole milliseconds and is early by one and more. Whoever is told too early that something failed
    // can still see it done.
    if (leftMs > 0) timer = setTimeout(giveUp, leftMs);
    else late.reject(new Error(`no answer within ${limitMs} ms`));
  }
  try {
    return await Promise.race([answer, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits until a moment of this process's clock (`performance.now()`), and never less. */
export async function waitUntil(atMs: number): Promise<void> {
  for (let leftMs = atMs - performance.now(); leftMs > 0; leftMs = atMs - performance.now()) await sleep(leftMs);
}
