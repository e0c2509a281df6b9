/** Where a page of a list begins: after the row with this time and id. */
export type PagePosition = { atMs: number; id: string };

/**
 * Where the first page of a list that begins with the newest begins: before everything. With it, the first page is the
 * same query as every other, and as bounded.
 */
export const beforeTheNewest: PagePosition = { atMs: Number.MAX_SAFE_INTEGER, id: '' };

/** What a list is asked for; `limit` is at most 200. */
export type PageRequest = { limit: number; after: PagePosition | undefined };

/** One page, and where the next one begins; undefined on the last page. */
export type Page<T> = { items: T[]; next: PagePosition | undefined };

/** Cuts a page from rows of which one more than the limit was read, to know whether another page follows. */
export function cutPage<T>(rows: readonly T[], limit: number, positionOf: (row: T) => PagePosition): Page<T> {
  const items = rows.slice(0, limit);
  const last = items.at(-1);
  return { items, next: rows.length > limit && last !== undefined ? positionOf(last) : undefined };
}
