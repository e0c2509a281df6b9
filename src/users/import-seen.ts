import { createHash } from 'node:crypto';

const firstSlots = 2 ** 12;
const maxLoad = 0.6;

/** What a file has named before: addresses and ids. */
export type SeenSet = { /** Returns false when it was there. */ add(text: string): boolean };

/**
 * A set that keeps eight bytes of a digest of each text, about twenty bytes with the free places, where a Set of texts
 * takes a hundred. Two of ten million texts share a digest once in 400,000 files.
 */
export function createSeenSet(): SeenSet {
  let slots = new BigUint64Array(firstSlots);
  let count = 0;

  function place(digest: bigint): boolean {
    const mask = slots.length - 1;
    // The low bits choose the place; they are as random as the others.
    for (let at = Number(digest & BigInt(mask)); ; at = (at + 1) & mask) {
      if (slots[at] === digest) return false;
      if (slots[at] !== 0n) continue;
      slots[at] = digest;
      return true;
    }
  }

  function grow(): void {
    const old = slots;
    slots = new BigUint64Array(old.length * 2);
    for (const digest of old) if (digest !== 0n) place(digest);
  }

  return {
    add(text) {
      const digest = createHash('sha256').update(text).digest().readBigUInt64LE();
      // Zero marks a free place.
      const isNew = place(digest === 0n ? 1n : digest);
      if (isNew) count += 1;
      if (count > slots.length * maxLoad) grow();
      return isNew;
    },
  };
}
