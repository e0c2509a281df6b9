import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { ConnectionError } from 'fastify';
import { AppError, type ErrorCode, errorCatalogue } from '../errors.ts';
import { problemHeaders, toProblem } from './problem.ts';

const codesByNodeError: Readonly<Record<string, ErrorCode>> = {
  HPE_HEADER_OVERFLOW: 'request_header_fields_too_large',
  ERR_HTTP_REQUEST_TIMEOUT: 'request_timeout',
};

/** Answers what Node could not read as HTTP at all, with a problem document like any other refusal. */
export function createClientErrorHandler(publicUrl: string) {
  return (error: ConnectionError, socket: Socket): void => {
    if (error.code === 'ECONNRESET' || !socket.writable) {
      socket.destroy();
      return;
    }
    const code = codesByNodeError[error.code] ?? 'malformed_request';
    const body = JSON.stringify(toProblem(new AppError(code), publicUrl, randomUUID()));
    socket.end(
      [
        `HTTP/1.1 ${errorCatalogue[code].status} ${code}`,
        'Content-Type: application/problem+json',
        `Content-Length: ${Buffer.byteLength(body)}`,
        ...Object.entries(problemHeaders).map(([name, value]) => `${name}: ${value}`),
        'Connection: close',
        '',
        body,
      ].join('\r\n'),
    );
  };
}

/** Refuses an `Expect` header other than 100-continue, which Node would answer with a bare 417. */
export function createExpectationHandler(publicUrl: string) {
  return (_request: IncomingMessage, response: ServerResponse): void => {
    const problem = toProblem(new AppError('malformed_request'), publicUrl, randomUUID());
    const headers = { 'content-type': 'application/problem+json', ...problemHeaders, connection: 'close' };
    response.writeHead(problem.status, headers).end(JSON.stringify(problem));
  };
}
