import type { FastifyRequest } from 'fastify';
import type { BuiltInPermission } from '../permissions.ts';
import type { LimitName, RateLimitHook } from './rate-limits.ts';

/** The hooks that routes put in front of their handlers. */
export type RouteTools = {
  /** Lets only requests with a live access token through. */
  guard: (request: FastifyRequest) => Promise<void>;
  /** Lets only users with this permission through. Belongs behind the guard. */
  requirePermission: (permission: BuiltInPermission) => (request: FastifyRequest) => Promise<void>;
  /** Counts the request against a limit of its client. */
  limit: (name: LimitName) => RateLimitHook;
};
