import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { ConnectionError } from 'fastify';
import { AppError, type ErrorCode, errorCatalogue } from '../errors.ts';
import { problemHeaders, toProblem } from './problem.ts';
import type { RequestLog } from './request-log.ts';

/** What Node's server needs beside Fastify so that nothing is answered out of turn or without a problem document. */
export type ConnectionErrors = {
  /** Belongs to the server's `request` event: remembers what is not answered yet. */
  watchRequest(request: IncomingMessage, response: ServerResponse): void;
  /** Belongs to `clientError`: answers what Node could not read as HTTP at all. */
  answerClientError(error: ConnectionError, socket: Socket): void;
  /** Belongs to `checkExpectation`: refuses an `Expect` other than 100-continue, which Node would answer with a bare 417. */
  refuseExpectation(request: IncomingMessage, response: ServerResponse): void;
};

type Exchange = { request: IncomingMessage; response: ServerResponse };

const codesByNodeError: Readonly<Record<string, ErrorCode>> = {
  HPE_HEADER_OVERFLOW: 'request_header_fields_too_large',
  ERR_HTTP_REQUEST_TIMEOUT: 'request_timeout',
};

/** Creates the handlers of one server. */
export function createConnectionErrors(publicUrl: string, requestLog: RequestLog): ConnectionErrors {
  const unanswered = new WeakMap<Socket, Set<Exchange>>();
  const closing = new WeakSet<Socket>();

  // What follows a request on its connection must not be answered before it: the client would take the
  // refusal for the answer to its request. Such a connection just ends after the last answer.
  function closeAfterAnswers(socket: Socket, exchanges: readonly Exchange[]): void {
    closing.add(socket);
    // Only what has arrived whole will be answered.
    let left = exchanges.filter(({ request }) => request.complete);
    if (left.length === 0) socket.destroySoon();
    for (const exchange of left) {
      exchange.response.once('close', () => {
        left = left.filter((other) => other !== exchange);
        if (left.length === 0) socket.destroySoon();
      });
    }
  }

  function refuse(socket: Socket, code: ErrorCode, [exchange]: readonly Exchange[]): void {
    const { status } = errorCatalogue[code];
    const known = exchange === undefined ? undefined : requestLog.noteAnswer(exchange.response, status);
    const requestId = known ?? randomUUID();
    if (known === undefined) requestLog.noteRefusal({ requestId, method: exchange?.request.method, status });
    socket.end(renderProblem(code, publicUrl, requestId));
  }

  return {
    watchRequest(request, response) {
      const exchange = { request, response };
      const exchanges = unanswered.get(request.socket) ?? new Set();
      unanswered.set(request.socket, exchanges.add(exchange));
      response.once('close', () => exchanges.delete(exchange));
    },

    answerClientError(error, socket) {
      // A parser that has failed fails again on whatever else arrives.
      if (closing.has(socket)) return;
      if (error.code === 'ECONNRESET' || !socket.writable) {
        socket.destroy();
        return;
      }
      const exchanges = [...(unanswered.get(socket) ?? [])];
      // A lone request that has not arrived whole is what the error is about.
      const isAboutOne = exchanges.every(({ request, response }) => !request.complete && !response.headersSent);
      if (exchanges.length <= 1 && isAboutOne) {
        refuse(socket, codesByNodeError[error.code] ?? 'malformed_request', exchanges);
        return;
      }
      // One that has not arrived whole gets its own line when the connection closes.
      const isBehindAll = exchanges.every(({ request }) => request.complete);
      if (isBehindAll) requestLog.noteRefusal({ requestId: randomUUID(), method: undefined, status: 'aborted' });
      closeAfterAnswers(socket, exchanges);
    },

    refuseExpectation({ method }, response) {
      const requestId = randomUUID();
      const problem = toProblem(new AppError('malformed_request'), publicUrl, requestId);
      requestLog.noteRefusal({ requestId, method, status: problem.status });
      const headers = { 'content-type': 'application/problem+json', ...problemHeaders, connection: 'close' };
      response.writeHead(problem.status, headers).end(JSON.stringify(problem));
    },
  };
}

function renderProblem(code: ErrorCode, publicUrl: string, requestId: string): string {
  const body = JSON.stringify(toProblem(new AppError(code), publicUrl, requestId));
  return [
    `HTTP/1.1 ${errorCatalogue[code].status} ${code}`,
    'Content-Type: application/problem+json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...Object.entries(problemHeaders).map(([name, value]) => `${name}: ${value}`),
    'Connection: close',
    '',
    body,
  ].join('\r\n');
}
