import type { FastifyRequest } from 'fastify';
import { AppError } from '../errors.ts';

/** Counts the lines of a header, whose name is given in small letters: Node's own table keeps only one of some. */
export function countHeaderLines({ raw }: FastifyRequest, name: string): number {
  const { rawHeaders } = raw;
  let lines = 0;
  // Names and values take turns. Looked at for every request: nothing is copied.
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const given = rawHeaders[index];
    if (given?.length === name.length && given.toLowerCase() === name) lines += 1;
  }
  return lines;
}

/** A hook that refuses a request with no Host or with several, as RFC 9112 section 3.2 requires. */
export async function requireOneHost(request: FastifyRequest): Promise<void> {
  const hosts = countHeaderLines(request, 'host');
  const isOldHttp = request.raw.httpVersion === '1.0';
  if (hosts > 1 || (hosts === 0 && !isOldHttp)) throw new AppError('malformed_request');
}

const charsetPattern = /;\s*charset\s*=\s*"?([^";\s]*)/gi;

/** Refuses a body that says it is compressed or not UTF-8: it would be read as something that it is not. */
export function requirePlainUtf8(request: FastifyRequest): void {
  const encoding = request.headers['content-encoding'] ?? 'identity';
  const charsets = [...(request.headers['content-type'] ?? '').matchAll(charsetPattern)].map((match) => match[1] ?? '');
  const isUtf8 = charsets.every((charset) => /^utf-?8$/i.test(charset));
  if (encoding.toLowerCase() !== 'identity' || !isUtf8) throw new AppError('unsupported_media_type');
}
