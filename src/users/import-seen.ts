import { createHash } from 'node:crypto';

const firstSlots = 4_096;
const maxLoad = 0.6;

/** What a file has named before: addresses and ids. */
export type SeenSet = { has(text: string): boolean; add(text: string): void };

/**
 * A set that keeps eight bytes of a digest of each text, about twenty bytes with the free places, where a Set of texts
 * takes a hundred. Two of ten million texts share a digest once in 400,000 files.
 */
export function createSeenSet(): SeenSet {
  let slots = new BigUint64Array(firstSlots);
  let count = 0;

  /** Finds where a digest is, or where it would be. */
  function find(digest: bigint): number {
    const mask = slots.length - 1;
    // The low bits choose the place; they are as random as the others.
    let at = Number(digest & BigInt(mask));
    while (slots[at] !== 0n && slots[at] !== digest) at = (at + 1) & mask;
    return at;
  }

  function grow(): void {
    const old = slots;
    slots = new BigUint64Array(old.length * 2);
    for (const digest of old) if (digest !== 0n) slots[find(digest)] = digest;
  }

  return {
    has: (text) => slots[find(digestOf(text))] !== 0n,
    add(text) {
      const digest = digestOf(text);
      const at = find(digest);
      if (slots[at] !== 0n) return;
      slots[at] = digest;
      count += 1;
      if (count > slots.length * maxLoad) grow();
    },
  };
}

function digestOf(text: string): bigint {
  // Zero marks a free place.
  return createHash('sha256').update(text).digest().readBigUInt64LE() || 1n;
}
