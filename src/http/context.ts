import type { FastifyReply, FastifyRequest } from 'fastify';
import type { RequestContext } from '../request-context.ts';
import { clientAddress } from './client-address.ts';

const userAgentMaxLength = 512;

/** Reads from a request what flows may know of it. */
export function requestContext(request: FastifyRequest, reply: FastifyReply): RequestContext {
  const userAgent = request.headers['user-agent']?.slice(0, userAgentMaxLength).toWellFormed().replaceAll('\0', '');
  return {
    requestId: request.id,
    clientAddress: clientAddress(request),
    userAgent: userAgent === undefined || userAgent === '' ? null : userAgent,
    signal: clientGoneSignal(reply),
  };
}

/**
 * Aborts when the connection closes before the answer was written. Fastify's own `request.signal` follows the
 * request's stream, which closes as soon as the body has been read.
 */
function clientGoneSignal({ raw }: FastifyReply): AbortSignal {
  const controller = new AbortController();
  raw.once('close', () => {
    if (!raw.writableEnded) controller.abort();
  });
  return controller.signal;
}
