import type { FastifyReply, FastifyRequest } from 'fastify';
import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible';
import { answerWithin } from '../deadline.ts';
import type { Deps } from '../deps.ts';
import { AppError } from '../errors.ts';
import { clientAddress, clientNetwork } from './client-address.ts';

/** How many requests one client (an IPv4 address or an IPv6 /64) may make in a stretch of time. */
const limits = {
  'send-code': { requests: 10, perSeconds: 60 },
  'verify-code': { requests: 30, perSeconds: 60 },
  register: { requests: 10, perSeconds: 60 },
  login: { requests: 20, perSeconds: 60 },
  refresh: { requests: 120, perSeconds: 60 },
  password: { requests: 10, perSeconds: 60 },
  read: { requests: 600, perSeconds: 60 },
  write: { requests: 600, perSeconds: 60 },
} as const;

const redisDeadlineMs = 1_000;

export type LimitName = keyof typeof limits;

/** A hook that counts the request and refuses it when the client's limit is used up. */
export type RateLimitHook = (request: FastifyRequest, reply: FastifyReply) => Promise<void>;

/** Creates the hooks of every limit. They run before the body is read, so a refusal is cheap. */
export function createRateLimits(deps: Deps): (name: LimitName) => RateLimitHook {
  if (deps.config.environment.RATE_LIMITS === 'off') return () => async () => {};
  // Routes that share a name share what may be used up.
  const hooks = new Map<LimitName, RateLimitHook>();
  return (name) => {
    const hook = hooks.get(name) ?? createHook(deps, name);
    hooks.set(name, hook);
    return hook;
  };
}

function createHook(deps: Deps, name: LimitName): RateLimitHook {
  const { requests, perSeconds } = limits[name];
  const count = createCounter(deps, name);
  return async (request, reply) => {
    const { consumedPoints, remainingPoints, msBeforeNext } = await count(clientNetwork(clientAddress(request)));
    const secondsLeft = Math.ceil(msBeforeNext / 1000);
    // draft-ietf-httpapi-ratelimit-headers-10
    reply.header('ratelimit-policy', `"${name}";q=${requests};w=${perSeconds}`);
    reply.header('ratelimit', `"${name}";r=${remainingPoints};t=${secondsLeft}`);
    if (consumedPoints > requests) {
      throw new AppError('too_many_requests', { retryAfterSeconds: Math.max(1, secondsLeft) });
    }
  };
}

type Counter = (client: string) => Promise<RateLimiterRes>;

/**
 * Counts in this process always, and with Redis for all instances together; the stricter count holds. So a
 * Redis that goes away, is flushed or hangs makes a limit no looser than one instance's own.
 */
function createCounter({ redis, redisPrefix }: Deps, name: LimitName): Counter {
  const { requests, perSeconds } = limits[name];
  const options = { points: requests, duration: perSeconds, keyPrefix: `${redisPrefix}limit:${name}` };
  const ours = new RateLimiterMemory(options);
  if (redis === undefined) return (client) => consume(ours, client);
  const shared = new RateLimiterRedis({ ...options, storeClient: redis, useRedisPackage: true });
  return async (client) => {
    const own = await consume(ours, client);
    if (own.consumedPoints > requests) return own;
    try {
      const all = await answerWithin(redisDeadlineMs, consume(shared, client));
      return all.consumedPoints > own.consumedPoints ? all : own;
    } catch {
      // The connection reports its own failures.
      return own;
    }
  };
}

async function consume(limiter: RateLimiterMemory | RateLimiterRedis, client: string): Promise<RateLimiterRes> {
  try {
    return await limiter.consume(client);
  } catch (refusal) {
    if (refusal instanceof RateLimiterRes) return refusal;
    throw refusal;
  }
}
