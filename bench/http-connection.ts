import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** One reply, whole. */
export type LoadReply = {
  status: number;
  /** The status line and the headers as they came. */
  head: string;
  body: Buffer;
};

/** A keep-alive connection on which one request at a time is under way. */
export type LoadConnection = {
  /** Sends a request of `encodeRequest` and resolves with its reply. Rejects when no whole reply comes. */
  send(request: Buffer): Promise<LoadReply>;
  close(): void;
};

type Waiting = { resolve(reply: LoadReply): void; reject(error: Error): void };

const replyLimitMs = 60_000;
const endOfHead = Buffer.from('\r\n\r\n');

/** What a request is made of. A body is sent as JSON unless a header says otherwise. */
export type LoadRequest = { method: 'GET' | 'POST'; path: string; headers?: Record<string, string>; body?: string };

/** Writes a request as its bytes, so that one which is sent often is written once. */
export function encodeRequest(origin: string, { method, path, headers = {}, body }: LoadRequest): Buffer {
  const all: Record<string, string> = {
    host: new URL(origin).host,
    ...(body === undefined
      ? {}
      : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) }),
    ...headers,
  };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.from(`${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${body ?? ''}`);
}

/**
 * Opens a connection. It speaks as much of HTTP/1.1 as the replies of a JSON service need, because what a whole client
 * costs for each request would be taken from the processors that the service is measured on.
 */
export async function openConnection(origin: string): Promise<LoadConnection> {
  const { hostname, port } = new URL(origin);
  let waiting: Waiting | undefined;
  let isStale = false;
  let socket = await openSocket();

  async function openSocket(): Promise<Socket> {
    const opened = connect({ host: hostname.replace(/^\[|\]$/g, ''), port: Number(port), noDelay: true });
    await once(opened, 'connect');
    let received: Buffer = Buffer.alloc(0);
    const fail = (error: Error) => {
      opened.destroy();
      if (opened === socket) finish((ended) => ended.reject(error));
    };
    opened.setTimeout(replyLimitMs, () => fail(new Error(`no reply in ${replyLimitMs / 1000} s`)));
    opened.on('error', fail);
    opened.on('close', () => fail(new Error('the connection was closed without a whole reply')));
    opened.on('data', (chunk: Buffer) => {
      received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
      const read = readReply(received);
      if (read === undefined) return;
      if (read === 'unreadable') return fail(new Error('a reply has neither a length nor chunks'));
      if (read.length !== received.length) return fail(new Error('more came than one reply'));
      received = Buffer.alloc(0);
      // The service bounds the requests of a connection; the next one goes over a new one.
      isStale = /\r\nconnection: close\r\n/i.test(read.reply.head);
      finish((ended) => ended.resolve(read.reply));
    });
    return opened;
  }

  function finish(settle: (ended: Waiting) => void): void {
    const ended = waiting;
    waiting = undefined;
    if (ended !== undefined) settle(ended);
  }

  return {
    async send(request) {
      if (isStale) {
        socket.destroy();
        socket = await openSocket();
        isStale = false;
      }
      const { promise, resolve, reject } = Promise.withResolvers<LoadReply>();
      waiting = { resolve, reject };
      if (socket.destroyed) finish((ended) => ended.reject(new Error('the connection is closed')));
      else socket.write(request);
      return promise;
    },
    close() {
      socket.destroy();
    },
  };
}

type Reading = { reply: LoadReply; length: number } | 'unreadable' | undefined;

/** Reads the reply at the beginning of what was received, or returns undefined while it is not whole. */
function readReply(received: Buffer): Reading {
  const headLength = received.indexOf(endOfHead);
  if (headLength < 0) return undefined;
  const bodyStart = headLength + endOfHead.length;
  const head = received.toString('latin1', 0, headLength + 2);
  const status = Number(head.slice(9, 12));
  const size = /\r\ncontent-length: (\d+)\r\n/i.exec(head)?.[1];
  if (size === undefined && status !== 204) {
    const chunked = readChunks(received, bodyStart);
    if (chunked === undefined || chunked === 'unreadable') return chunked;
    return { reply: { status, head, body: chunked.body }, length: chunked.end };
  }
  const end = bodyStart + Number(size ?? 0);
  if (received.length < end) return undefined;
  return { reply: { status, head, body: received.subarray(bodyStart, end) }, length: end };
}

function readChunks(received: Buffer, start: number): { body: Buffer; end: number } | 'unreadable' | undefined {
  const chunks: Buffer[] = [];
  for (let at = start; ; ) {
    const lineEnd = received.indexOf('\r\n', at);
    if (lineEnd < 0) return undefined;
    const size = Number.parseInt(received.toString('latin1', at, lineEnd), 16);
    if (Number.isNaN(size)) return 'unreadable';
    const chunkEnd = lineEnd + 2 + size;
    if (received.length < chunkEnd + 2) return undefined;
    chunks.push(received.subarray(lineEnd + 2, chunkEnd));
    at = chunkEnd + 2;
    if (size === 0) return { body: Buffer.concat(chunks), end: at };
  }
}
