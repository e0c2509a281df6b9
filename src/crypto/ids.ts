import { randomUUIDv7 } from 'node:crypto';

/** A new identifier: a UUID version 7 (RFC 9562), whose order in time keeps index pages together. */
export function newId(): string {
  return randomUUIDv7();
}

/** The form of every identifier that we make. */
export const idPattern = '[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}';

/** The form of a user's identifier: ours, or the UUID of any version that an import brought. */
export const userIdPattern = '[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}';
