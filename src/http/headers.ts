import type { FastifyRequest } from 'fastify';
import { AppError } from '../errors.ts';

/** A hook that refuses a request with no Host or with several, as RFC 9112 section 3.2 requires. */
export async function requireOneHost(request: FastifyRequest): Promise<void> {
  const names = request.raw.rawHeaders.filter((_text, index) => index % 2 === 0);
  const hosts = names.filter((name) => name.toLowerCase() === 'host').length;
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
