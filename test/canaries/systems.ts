import type { DestinationStream } from 'pino';
import { answerWithin } from '../../src/deadline.ts';
import type { Deps } from '../../src/deps.ts';
import { dumpDatabase, dumpRedis } from './dump.ts';
import { noteConfiguration } from './exchange-secrets.ts';
import { recording } from './recording.ts';

/** Where systems log to while they are recorded. */
export const recordingDestination: DestinationStream | undefined = recording && {
  write: (line) => recording?.text('log', line),
};

const dumpLimitMs = 3_000;

/** Leaves the secrets, the metrics and the stored state of a system behind. A component that is away leaves nothing. */
export async function recordSystem(deps: Deps): Promise<void> {
  if (recording === undefined) return;
  const { REDIS_URL } = deps.config.environment;
  noteConfiguration({ note: recording.secret }, deps);
  recording.text('metrics', await deps.scrape());
  const database = await answerWithin(dumpLimitMs, dumpDatabase(deps)).catch(() => undefined);
  recording.text('database', database?.open ?? '');
  recording.text('sealed', database?.sealed ?? '');
  if (REDIS_URL === undefined || !deps.redis?.isReady || !/^rediss?:/.test(REDIS_URL)) return;
  recording.text('redis', await answerWithin(dumpLimitMs, dumpRedis(REDIS_URL, deps.redisPrefix)).catch(() => ''));
}
