import { answerWithin } from '../deadline.ts';

/** What is asked of a Redis that can be done without: after an answer that does not come nobody waits again for a second. */
export type RedisPause = {
  isOn(): boolean;
  /** Gives the answer; rejects and begins the pause when it fails or has not come in time. */
  within<T>(deadlineMs: number, answer: Promise<T>): Promise<T>;
};

// While Redis fails, nobody waits for it again and again.
const pauseMs = 1_000;

/** Creates the pause that those share who ask for the same thing. */
export function createRedisPause(): RedisPause {
  let untilMs = 0;
  return {
    isOn: () => performance.now() < untilMs,
    async within(deadlineMs, answer) {
      try {
        return await answerWithin(deadlineMs, answer);
      } catch (error) {
        untilMs = performance.now() + pauseMs;
        throw error;
      }
    },
  };
}
