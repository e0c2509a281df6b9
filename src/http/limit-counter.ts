import { createHmac, randomBytes } from 'node:crypto';
import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible';
import type { Deps } from '../deps.ts';
import { createRedisPause, type RedisPause } from '../ephemeral/redis-pause.ts';
import { formatStretch, type LimitPolicy } from '../limit-grammar.ts';

/** What is known of one policy for one key, the request that is counted included. */
export type Reading = { policy: LimitPolicy; consumed: number; remaining: number; resetMs: number };

/** Counts the requests of one policy by key. It lives by the clock of the machine: the library and Redis know no other. */
export type LimitCounter = {
  policy: LimitPolicy;
  /** Counts a request. */
  consume(key: string): Promise<Reading>;
  /** Says how it stands, and counts nothing. */
  look(key: string): Promise<Reading>;
};

type CounterOptions = {
  name: string;
  policy: LimitPolicy;
  maxKeys?: number;
  /** Shared by the counters that one request meets, so that it does not wait for each of them. */
  pause?: RedisPause;
};

type OwnReading = { isCrowd: boolean; result: RateLimiterRes };

const redisDeadlineMs = 1_000;
const maxKeysPerPolicy = 20_000;
const crowds = 1_024;

/**
 * Counts in this process always, and with Redis for all instances together; the stricter count holds. So a
 * Redis that goes away, is flushed or hangs makes a limit no looser than one instance's own.
 */
export function createLimitCounter({ redis, redisPrefix }: Deps, options: CounterOptions): LimitCounter {
  const { name, policy, maxKeys = maxKeysPerPolicy, pause = createRedisPause() } = options;
  const { requests, perSeconds, scope } = policy;
  const limiterOptions = {
    points: requests,
    duration: perSeconds,
    // With the stretch in the key, a changed setting begins anew instead of inheriting an end that is not its own.
    keyPrefix: `${redisPrefix}limit:${name}:${scope}:${formatStretch(perSeconds)}`,
  };
  const ours = createOwnCounter(limiterOptions, maxKeys);
  const shared =
    redis === undefined
      ? undefined
      : new RateLimiterRedis({ ...limiterOptions, storeClient: redis, useRedisPackage: true });

  async function ask(key: string, points: 0 | 1): Promise<Reading> {
    const own = points === 0 ? await ours.look(key) : await ours.consume(key);
    // Where this process knows enough to refuse, Redis is left alone. What a crowd has used up is no single client's.
    const isDecided = shared === undefined || (!own.isCrowd && own.result.consumedPoints > requests);
    const isAlone = isDecided || pause.isOn();
    return toReading(policy, isAlone ? own.result : await stricter(own, shared.consume(key, points), pause));
  }

  return { policy, consume: (key) => ask(key, 1), look: (key) => ask(key, 0) };
}

async function stricter(own: OwnReading, shared: Promise<RateLimiterRes>, pause: RedisPause): Promise<RateLimiterRes> {
  try {
    const all = await pause.within(redisDeadlineMs, settle(shared));
    return own.isCrowd || all.consumedPoints > own.result.consumedPoints ? all : own.result;
  } catch {
    // The connection reports its own failures.
    return own.result;
  }
}

/**
 * The library keeps a record and a timer for every key, without a bound. Beyond the bound here, keys that are not known
 * yet are counted together in crowds: stricter for them, and no looser for those already counted.
 */
function createOwnCounter(options: { points: number; duration: number; keyPrefix: string }, maxKeys: number) {
  const limiter = new RateLimiterMemory(options);
  // All last equally long, so the order of their beginning is that of their end.
  const endsAtMs = new Map<string, number>();
  // Of this process alone, so that nobody can choose whose crowd to join.
  const seed = randomBytes(16);

  function place(key: string): { key: string; isCrowd: boolean } {
    const nowMs = Date.now();
    for (const [oldest, endMs] of endsAtMs) {
      if (endMs > nowMs) break;
      endsAtMs.delete(oldest);
    }
    if (endsAtMs.has(key) || endsAtMs.size < maxKeys) return { key, isCrowd: false };
    const crowd = createHmac('sha256', seed).update(key).digest().readUInt32BE() % crowds;
    return { key: `crowd:${crowd}`, isCrowd: true };
  }

  return {
    async consume(asked: string): Promise<OwnReading> {
      const { key, isCrowd } = place(asked);
      const result = await settle(limiter.consume(key));
      if (!isCrowd && result.isFirstInDuration) {
        // Removed first, so that it goes to the end of the order.
        endsAtMs.delete(key);
        endsAtMs.set(key, Date.now() + options.duration * 1000);
      }
      return { isCrowd, result };
    },
    async look(asked: string): Promise<OwnReading> {
      const { key, isCrowd } = place(asked);
      const known = await limiter.get(key);
      return { isCrowd, result: known ?? new RateLimiterRes(options.points, 0, 0) };
    },
  };
}

/** The library rejects with the count of a request that is one too many. */
async function settle(counting: Promise<RateLimiterRes>): Promise<RateLimiterRes> {
  try {
    return await counting;
  } catch (refusal) {
    if (refusal instanceof RateLimiterRes) return refusal;
    throw refusal;
  }
}

function toReading(policy: LimitPolicy, { consumedPoints, msBeforeNext }: RateLimiterRes): Reading {
  const remaining = Math.max(0, policy.requests - consumedPoints);
  return { policy, consumed: consumedPoints, remaining, resetMs: Math.max(0, msBeforeNext) };
}
