import { randomUUID } from 'node:crypto';
import type { Socket } from 'node:net';
import type { ConnectionError } from 'fastify';
import { AppError, type ErrorCode, errorCatalogue } from '../errors.ts';
import { toProblem } from './problem.ts';

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
        'Connection: close',
        '',
        body,
      ].join('\r\n'),
    );
  };
}
