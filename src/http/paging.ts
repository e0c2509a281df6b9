import type { TSchema } from 'typebox';
import { userIdPattern } from '../crypto/ids.ts';
import { fieldRefused } from '../errors.ts';
import { Type } from '../json-schema.ts';
import type { PagePosition, PageRequest } from '../paging.ts';

const defaultLimit = 50;
const maxLimit = 200;
// An address and the little around it.
const cursorMaxLength = 400;
const idForm = new RegExp(`^${userIdPattern}$`);

/** The query parameters of every list. */
export const pageFields = {
  limit: Type.Optional(
    Type.Integer({ minimum: 1, maximum: maxLimit, default: defaultLimit, description: 'How many items at most.' }),
  ),
  cursor: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: cursorMaxLength,
      description: 'The `next_cursor` of the page before. Opaque.',
    }),
  ),
};

/** The answer of every list. */
export function pageSchema<T extends TSchema>(item: T, options: { description: string; examples: unknown[] }) {
  return Type.Object(
    {
      items: Type.Array(item),
      next_cursor: Type.Union([Type.String(), Type.Null()], { description: 'Null on the last page.' }),
    },
    { additionalProperties: false, ...options },
  );
}

/** Reads the query of a list. An invented cursor is refused. */
export function readPageRequest(query: { limit?: number; cursor?: string }): PageRequest {
  return { limit: query.limit ?? defaultLimit, after: query.cursor === undefined ? undefined : decode(query.cursor) };
}

/** Writes where the next page begins as an opaque text. */
export function encodeCursor(position: PagePosition | undefined): string | null {
  return position === undefined
    ? null
    : Buffer.from(JSON.stringify([position.atMs, position.id])).toString('base64url');
}

/** Writes that the next page begins after this text, where a list is in the order of texts. */
export function encodeTextCursor(text: string | undefined): string | null {
  return text === undefined ? null : Buffer.from(JSON.stringify([text])).toString('base64url');
}

/** Reads such a cursor. `isPosition` says whether the text could be one; an invented cursor is refused. */
export function readTextCursor(cursor: string, isPosition: (text: string) => boolean): string {
  try {
    const [text, ...rest] = JSON.parse(Buffer.from(cursor, 'base64url').toString()) as unknown[];
    if (typeof text === 'string' && rest.length === 0 && isPosition(text)) return text;
  } catch {
    // As below.
  }
  throw fieldRefused('cursor', 'is not a cursor of this list');
}

function decode(cursor: string): PagePosition {
  try {
    const [atMs, id, ...rest] = JSON.parse(Buffer.from(cursor, 'base64url').toString()) as unknown[];
    const isPosition = Number.isSafeInteger(atMs) && typeof id === 'string' && idForm.test(id) && rest.length === 0;
    if (isPosition) return { atMs: atMs as number, id };
  } catch {
    // Not JSON: the same answer as for JSON of another shape.
  }
  throw fieldRefused('cursor', 'is not a cursor of this list');
}
