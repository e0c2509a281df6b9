import type { FastifyRequest } from 'fastify';
import type { Deps } from '../deps.ts';
import { AppError } from '../errors.ts';
import type { BuiltInPermission } from '../permissions.ts';
import { type Actor, requirePermissionOf } from '../roles/actor.ts';
import { authenticate } from '../sessions/guard.ts';
import type { Principal } from '../sessions/principal.ts';
import { countHeaderLines } from './headers.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Set by the guard; read it with `principalOf`. */
    principal: Principal | null;
  }
}

// RFC 6750 section 2.1: the scheme is case-insensitive, the token is b64token.
const bearerPattern = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i;

/** A hook that lets only requests with a live access token through. It runs before the body is read. */
export function createBearerGuard(deps: Deps): (request: FastifyRequest) => Promise<void> {
  return async (request) => {
    const token = readBearerToken(request);
    if (token === undefined) throw new AppError('authentication_required');
    request.principal = await authenticate(deps, token);
  };
}

/**
 * A hook behind the guard that lets only users through who hold a permission, by the roles that they have now and not
 * by what their token says.
 */
export function requirePermission(permission: BuiltInPermission): (request: FastifyRequest) => Promise<void> {
  return async (request) => requirePermissionOf(principalOf(request), permission);
}

/** The user who makes the request, as who administers. */
export function actorOf(request: FastifyRequest): Actor {
  return { kind: 'user', principal: principalOf(request) };
}

/** Reads the bearer token, or returns undefined when the request carries none. */
export function readBearerToken(request: FastifyRequest): string | undefined {
  const header = request.headers.authorization;
  // Of several, Node keeps the first; a proxy before us may have looked at another.
  if (countHeaderLines(request, 'authorization') > 1) throw new AppError('invalid_token');
  // Another scheme is no attempt at this one (RFC 6750 section 3).
  if (header === undefined || !/^bearer\b/i.test(header)) return undefined;
  const token = bearerPattern.exec(header)?.[1];
  if (token === undefined) throw new AppError('invalid_token');
  return token;
}

/** Who makes the request, on a route behind the guard. */
export function principalOf(request: FastifyRequest): Principal {
  if (request.principal === null) throw new Error('the route is not behind the bearer guard');
  return request.principal;
}
