import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { AppError } from '../errors.ts';
import type { ApiInstance } from './api.ts';

/** What one connection may cost, in time and otherwise, and how many there may be. */
export type ConnectionLimits = {
  /** From the first byte of a request, or from the connection, to the end of the headers. */
  headersMs: number;
  /** From the first byte of a request to the last of its body. */
  requestMs: number;
  /** Between two looks at which connections have used up these two. */
  checkEveryMs: number;
  /** Without a request. */
  keepAliveMs: number;
  /** In which nothing is sent or received although a request is under way: its client has stopped reading. */
  silenceMs: number;
  requestsPerConnection: number;
  connections: number;
};

/** The limits of the service. Tests give others, so that none has to wait. */
export const connectionLimits: ConnectionLimits = {
  headersMs: 10_000,
  requestMs: 15_000,
  checkEveryMs: 1_000,
  keepAliveMs: 65_000,
  silenceMs: 60_000,
  requestsPerConnection: 1_000,
  connections: 5_000,
};

const maxHeaders = 100;
const tellEveryMs = 10_000;

/** The limits in the words of Fastify and Node. */
export function connectionOptions(limits: ConnectionLimits) {
  return {
    requestTimeout: limits.requestMs,
    keepAliveTimeout: limits.keepAliveMs,
    connectionTimeout: limits.silenceMs,
    // Refused by hooks of ours, with problem documents.
    http: {
      headersTimeout: limits.headersMs,
      connectionsCheckingInterval: limits.checkEveryMs,
      requireHostHeader: false,
    },
  };
}

/** Bounds the number of connections and of requests on each. One connection too many is closed without an answer. */
export function limitConnections({ server }: ApiInstance, limits: ConnectionLimits, log: Logger): void {
  server.maxConnections = limits.connections;
  // Node would drop what is beyond without a word, and with it a second Host or Authorization.
  server.maxHeadersCount = 0;
  let toldAtMs = Number.NEGATIVE_INFINITY;
  server.on('drop', () => {
    if (performance.now() - toldAtMs < tellEveryMs) return;
    toldAtMs = performance.now();
    log.warn({ connections: limits.connections }, 'there are as many connections as may be; further ones are closed');
  });
  const requestsOf = new WeakMap<Socket, number>();
  server.prependListener('request', ({ socket }: IncomingMessage, response: ServerResponse) => {
    const requests = (requestsOf.get(socket) ?? 0) + 1;
    requestsOf.set(socket, requests);
    // Answered with "Connection: close"; Node's own limit answers what follows with a bare 503.
    if (requests >= limits.requestsPerConnection) response.shouldKeepAlive = false;
  });
}

/** A hook that refuses more headers than any client or proxy sends. */
export async function refuseManyHeaders({ raw }: FastifyRequest, reply: FastifyReply): Promise<void> {
  if (raw.rawHeaders.length / 2 <= maxHeaders) return;
  reply.header('connection', 'close');
  throw new AppError('request_header_fields_too_large');
}
