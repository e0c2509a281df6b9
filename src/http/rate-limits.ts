import type { FastifyReply, FastifyRequest } from 'fastify';
import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible';
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
} as const;

export type LimitName = keyof typeof limits;

/** A hook that counts the request and refuses it when the client's limit is used up. */
export type RateLimitHook = (request: FastifyRequest, reply: FastifyReply) => Promise<void>;

/** Creates the hooks of every limit. They run before the body is read, so a refusal is cheap. */
export function createRateLimits(deps: Deps): (name: LimitName) => RateLimitHook {
  if (deps.config.environment.RATE_LIMITS === 'off') return () => async () => {};
  return (name) => {
    const { requests, perSeconds } = limits[name];
    const limiter = createLimiter(deps, name);
    return async (request, reply) => {
      const outcome = await consume(limiter, clientNetwork(clientAddress(request)));
      const secondsLeft = Math.ceil(outcome.msBeforeNext / 1000);
      // draft-ietf-httpapi-ratelimit-headers-10
      reply.header('ratelimit-policy', `"${name}";q=${requests};w=${perSeconds}`);
      reply.header('ratelimit', `"${name}";r=${outcome.remainingPoints};t=${secondsLeft}`);
      if (outcome.consumedPoints > requests) {
        throw new AppError('too_many_requests', { retryAfterSeconds: Math.max(1, secondsLeft) });
      }
    };
  };
}

function createLimiter({ redis }: Deps, name: LimitName): RateLimiterMemory | RateLimiterRedis {
  const { requests, perSeconds } = limits[name];
  const options = { points: requests, duration: perSeconds, keyPrefix: `latchkey:limit:${name}` };
  const memory = new RateLimiterMemory(options);
  if (redis === undefined) return memory;
  // While Redis is away this process counts alone: never looser for one client of one instance.
  return new RateLimiterRedis({ ...options, storeClient: redis, useRedisPackage: true, insuranceLimiter: memory });
}

async function consume(limiter: RateLimiterMemory | RateLimiterRedis, key: string): Promise<RateLimiterRes> {
  try {
    return await limiter.consume(key);
  } catch (refusal) {
    if (refusal instanceof RateLimiterRes) return refusal;
    throw refusal;
  }
}
