import type { FastifyRequest } from 'fastify';
import type { LimitName } from '../limit-table.ts';
import type { BuiltInPermission } from '../permissions.ts';
import type { RateLimitHook } from './rate-limits.ts';

/** The hooks that routes put in front of their handlers. */
export type RouteTools = {
  /** Lets only requests with a live access token through. */
  guard: (request: FastifyRequest) => Promise<void>;
  /** Lets only users with this permission through. Belongs behind the guard. */
  requirePermission: (permission: BuiltInPermission) => (request: FastifyRequest) => Promise<void>;
  /** Counts the request against a limit. Belongs before the guard, so that a refusal costs little. */
  limit: (name: LimitName) => RateLimitHook;
};
