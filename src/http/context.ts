import type { FastifyRequest } from 'fastify';
import type { RequestContext } from '../request-context.ts';
import { clientAddress } from './client-address.ts';

const userAgentMaxLength = 512;

/** Reads from a request what flows may know of it. */
export function requestContext(request: FastifyRequest): RequestContext {
  const userAgent = request.headers['user-agent']?.slice(0, userAgentMaxLength).toWellFormed().replaceAll('\0', '');
  return {
    requestId: request.id,
    clientAddress: clientAddress(request),
    userAgent: userAgent === undefined || userAgent === '' ? null : userAgent,
    signal: request.signal,
  };
}
