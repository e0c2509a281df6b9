import { type AddressInfo, connect } from 'node:net';
import type { Reply } from './client.ts';
import type { System } from './system.ts';

/** The header that every request of HTTP/1.1 needs. */
export const host = 'Host: latchkey.test';

/** Sends one well-formed request and reads the reply. */
export async function exchange(
  system: System,
  method: string,
  path: string,
  headers: Record<string, string> = {},
  body?: string,
): Promise<Reply> {
  const length = body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body, 'latin1')) };
  const all = Object.entries({ ...headers, ...length, connection: 'close' });
  const lines = [`${method} ${path} HTTP/1.1`, host, ...all.map(([name, value]) => `${name}: ${value}`)];
  return parseReply(await converse(system, `${lines.join('\r\n')}\r\n\r\n${body ?? ''}`));
}

/** Writes bytes to the server and reads until it closes the connection. */
export async function converse(system: System, bytes: string): Promise<string> {
  const { server } = system.app;
  if (!server.listening) await system.app.listen({ host: '127.0.0.1', port: 0 });
  const socket = connect({ host: '127.0.0.1', port: (server.address() as AddressInfo).port, timeout: 5_000 });
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  let received = '';
  socket.setEncoding('utf8');
  socket.on('data', (chunk: string) => {
    received += chunk;
  });
  socket.on('timeout', () => socket.destroy(new Error(`the connection stayed open after ${received.slice(0, 300)}`)));
  // A server that refuses without reading everything may reset the connection after its reply.
  socket.on('error', (error) =>
    received === '' || !/ECONNRESET|EPIPE/.test(String(error)) ? reject(error) : undefined,
  );
  socket.on('close', () => resolve(received));
  socket.write(bytes, 'latin1');
  return promise;
}

/** Takes the text of one reply apart. */
export function parseReply(text: string): Reply {
  const end = text.indexOf('\r\n\r\n');
  const [statusLine = '', ...lines] = text.slice(0, end).split('\r\n');
  const headers = Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
  );
  const body = headers['transfer-encoding'] === 'chunked' ? joinChunks(text.slice(end + 4)) : text.slice(end + 4);
  const isJson = /json/.test(headers['content-type'] ?? '') && body !== '';
  return { status: Number(statusLine.split(' ')[1]), headers, text: body, body: isJson ? JSON.parse(body) : undefined };
}

/** Joins the chunks of a body (RFC 9112 section 7.1) that holds ASCII alone. */
function joinChunks(text: string): string {
  const sizeEnd = text.indexOf('\r\n');
  const size = Number.parseInt(text.slice(0, sizeEnd), 16);
  if (!(size > 0)) return '';
  const start = sizeEnd + 2;
  return text.slice(start, start + size) + joinChunks(text.slice(start + size + 2));
}
