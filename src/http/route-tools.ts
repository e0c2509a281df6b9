import type { FastifyRequest } from 'fastify';
import type { LimitName, RateLimitHook } from './rate-limits.ts';

/** The hooks that routes put in front of their handlers. */
export type RouteTools = {
  /** Lets only requests with a live access token through. */
  guard: (request: FastifyRequest) => Promise<void>;
  /** Counts the request against a limit of its client. */
  limit: (name: LimitName) => RateLimitHook;
};
