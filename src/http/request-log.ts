import type { ServerResponse } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import type { Metrics } from '../metrics/metrics.ts';
import type { ApiInstance } from './api.ts';

/** A request that no route has seen: Node or the router could not read it. */
type Refusal = {
  requestId: string;
  /** Undefined where not even the first line could be read. */
  method: string | undefined;
  status: number | 'aborted';
};

/** One line for each request, however it ends, and one count. */
export type RequestLog = {
  register(app: ApiInstance): void;
  /** Writes the line of a request that no route has seen. */
  noteRefusal(refusal: Refusal): void;
  /** Says that a request which the application still reads was answered over its head. Returns the id of its line. */
  noteAnswer(response: ServerResponse, status: number): string | undefined;
};

type Line = { request: FastifyRequest; reply: FastifyReply; answered?: number; isWritten: boolean };

// Asked every few seconds by machines: of these, only a failure is worth a line.
const polledRoutes: ReadonlySet<string> = new Set(['/health/live', '/health/ready', '/metrics']);

/** Creates the request log of one listener. */
export function createRequestLog(log: Logger, metrics: Pick<Metrics, 'countRequest'>): RequestLog {
  const lines = new WeakMap<ServerResponse, Line>();
  // The search for secrets by name would cost as much as all the rest of a line, and find nothing: every field of these
  // lines is named here, and none holds what a client sent but its method.
  const lineLog = log.child({}, { redact: [] });

  function write(line: Line, status: number | 'aborted'): void {
    if (line.isWritten) return;
    line.isWritten = true;
    const { request, reply } = line;
    // The template instead of the URL, which may hold ids and, by somebody's mistake, secrets.
    const route = request.routeOptions.url;
    const durationMs = reply.elapsedTime;
    metrics.countRequest({ method: request.method, route, status, durationMs });
    lineLog[levelOf(route, status)](
      {
        request_id: request.id,
        method: request.method,
        route: route ?? null,
        ...describeStatus(status),
        duration_ms: Math.round(durationMs * 10) / 10,
        user_id: request.principal?.userId ?? null,
      },
      'request',
    );
  }

  return {
    register(app) {
      app.addHook('onRequest', async (request, reply) => {
        const line: Line = { request, reply, isWritten: false };
        lines.set(reply.raw, line);
        // An answer that nobody took comes to no `onResponse`.
        reply.raw.once('close', () =>
          write(line, line.answered ?? (reply.raw.writableEnded ? reply.statusCode : 'aborted')),
        );
      });
      app.addHook('onResponse', async (_request, reply) => {
        const line = lines.get(reply.raw);
        if (line !== undefined) write(line, line.answered ?? reply.statusCode);
      });
    },

    noteRefusal({ requestId, method, status }) {
      metrics.countRequest({ method: method ?? 'other', route: undefined, status });
      const parts = {
        method: method ?? null,
        route: null,
        ...describeStatus(status),
        duration_ms: null,
        user_id: null,
      };
      lineLog[levelOf(undefined, status)]({ request_id: requestId, ...parts }, 'request');
    },

    noteAnswer(response, status) {
      const line = lines.get(response);
      if (line === undefined) return undefined;
      line.answered = status;
      return line.request.id;
    },
  };
}

/** A probe that is answered 503 was answered as it should be: worth a line, and no fault of the program. */
function levelOf(route: string | undefined, status: number | 'aborted'): 'error' | 'info' | 'debug' {
  const isFailure = typeof status === 'number' && status >= 500;
  if (route === undefined || !polledRoutes.has(route)) return isFailure ? 'error' : 'info';
  return isFailure ? 'info' : 'debug';
}

function describeStatus(status: number | 'aborted') {
  return status === 'aborted' ? { status: null, aborted: true } : { status };
}
