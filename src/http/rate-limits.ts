import type { FastifyReply, FastifyRequest } from 'fastify';
import { clientNetwork } from '../client-network.ts';
import { hmacSha256 } from '../crypto/secrets.ts';
import type { Deps } from '../deps.ts';
import { canonicalEmailAddress } from '../email-address.ts';
import { createRedisPause, type RedisPause } from '../ephemeral/redis-pause.ts';
import { AppError } from '../errors.ts';
import { formatStretch, type LimitPolicy, type LimitScope } from '../limit-grammar.ts';
import type { LimitName } from '../limit-table.ts';
import { clientAddress } from './client-address.ts';
import { createLimitCounter, type LimitCounter, type Reading } from './limit-counter.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** What was counted of this request so far; null before, and where nothing is limited. */
    counted: CountedRequest | null;
  }
}

type CountedRequest = { limit: Limit; readings: readonly Reading[] };

/** One limit by its name. `client` is counted before the body is read, `account` when it is known whose the request is. */
type Limit = { name: LimitName; client: readonly LimitCounter[]; account: readonly LimitCounter[] };

export type RateLimitHook = (request: FastifyRequest, reply: FastifyReply) => Promise<void>;

export type RateLimitHooks = {
  /** Makes the `onRequest` hook of a route. It runs before the body is read, so a refusal is cheap. */
  limit(name: LimitName): RateLimitHook;
  /** The `preHandler` hook of all routes: counts by account and by pair what a limit has let through. */
  limitAccount: RateLimitHook;
};

const scopeOrder: readonly LimitScope[] = ['ip', 'account', 'pair'];

/** Creates the hooks of every limit. Routes that name the same limit share what may be used up. */
export function createRateLimits(deps: Deps): RateLimitHooks {
  const { rateLimits } = deps.config;
  if (rateLimits === undefined) return { limit: () => async () => {}, limitAccount: async () => {} };
  const limits = new Map<LimitName, Limit>();
  const pause = createRedisPause();
  return {
    limit(name) {
      const limit = limits.get(name) ?? createLimit(deps, { name, policies: rateLimits[name], pause });
      limits.set(name, limit);
      return async (request, reply) => {
        request.counted = { limit, readings: [] };
        await count(deps, request, reply, limit.client, () => clientNetwork(clientAddress(request)));
      };
    },
    async limitAccount(request, reply) {
      const counters = request.counted?.limit.account ?? [];
      const account = counters.length === 0 ? undefined : findAccount(request);
      if (account === undefined) return;
      const key = deps.keyring.current.key('limit');
      await count(deps, request, reply, counters, ({ scope }) =>
        // A digest, because the address of a stranger is nothing to keep.
        hmacSha256(key, scope === 'pair' ? [...account, clientNetwork(clientAddress(request))] : account),
      );
    },
  };
}

type LimitParts = { name: LimitName; policies: readonly LimitPolicy[]; pause: RedisPause };

// From the broadest to the narrowest and the shortest first: what one refuses does not use up those behind it.
function createLimit(deps: Deps, { name, policies, pause }: LimitParts): Limit {
  const counters = policies
    .toSorted((a, b) => scopeOrder.indexOf(a.scope) - scopeOrder.indexOf(b.scope) || a.perSeconds - b.perSeconds)
    .map((policy) => createLimitCounter(deps, { name, policy, pause }));
  const isOfClient = ({ policy }: LimitCounter): boolean => policy.scope === 'ip';
  return { name, client: counters.filter(isOfClient), account: counters.filter((one) => !isOfClient(one)) };
}

/**
 * Whose the request is: the user of the access token, or the address that it names, whether somebody has it or not.
 * Undefined where it names none; what is no address is refused by the flow.
 */
function findAccount({ principal, body }: FastifyRequest): string[] | undefined {
  if (principal !== null) return ['user', principal.userId];
  const email = typeof body === 'object' && body !== null && 'email' in body ? body.email : undefined;
  const address = typeof email === 'string' ? canonicalEmailAddress(email) : undefined;
  return address === undefined ? undefined : ['address', address];
}

async function count(
  deps: Deps,
  request: FastifyRequest,
  reply: FastifyReply,
  counters: readonly LimitCounter[],
  keyOf: (policy: LimitPolicy) => string,
): Promise<void> {
  if (request.counted === null) return;
  const readings: Reading[] = [];
  let isRefused = false;
  for (const counter of counters) {
    const key = keyOf(counter.policy);
    // Behind a refusal nothing is counted any more, but what blocks too decides when it is worth coming back.
    const reading: Reading = isRefused ? await counter.look(key) : await counter.consume(key);
    isRefused ||= reading.consumed > counter.policy.requests;
    readings.push(reading);
  }
  const { limit } = request.counted;
  const all = [...request.counted.readings, ...readings];
  request.counted = { limit, readings: all };
  const [tightest] = all.toSorted((a, b) => a.remaining - b.remaining || b.resetMs - a.resetMs);
  if (tightest === undefined) return;
  describe(reply, limit, all, tightest);
  if (isRefused) refuse(deps, limit, tightest);
}

/** Every refusal of a limit is thrown here. The tightest is of those that block the one that does so longest. */
function refuse({ metrics }: Deps, { name }: Limit, { resetMs }: Reading): never {
  metrics.countRateLimited(name);
  throw new AppError('too_many_requests', { retryAfterSeconds: Math.max(1, Math.ceil(resetMs / 1000)) });
}

/** Says in the words of draft-ietf-httpapi-ratelimit-headers-10 what was counted, and which of it is nearest to its end. */
function describe(reply: FastifyReply, limit: Limit, readings: readonly Reading[], tightest: Reading): void {
  const policies = readings.map(
    ({ policy }) => `"${policyName(limit, policy)}";q=${policy.requests};w=${policy.perSeconds}`,
  );
  const { policy, remaining, resetMs } = tightest;
  reply.header('ratelimit-policy', policies.join(', '));
  reply.header('ratelimit', `"${policyName(limit, policy)}";r=${remaining};t=${Math.ceil(resetMs / 1000)}`);
}

/** A policy of the client bears the name of its limit, the others their scope too, and the stretch where that is needed to tell them apart. */
function policyName({ name, client, account }: Limit, { scope, perSeconds }: LimitPolicy): string {
  const isAlone = [...client, ...account].filter(({ policy }) => policy.scope === scope).length === 1;
  return [name, ...(scope === 'ip' ? [] : [scope]), ...(isAlone ? [] : [formatStretch(perSeconds)])].join(':');
}
