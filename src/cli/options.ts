import { InvalidArgumentError } from 'commander';

const countMax = 10_000_000;

/** Reads an option that counts something. */
export function readCount(text: string): number {
  const count = /^\d{1,8}$/.test(text) ? Number(text) : 0;
  if (count < 1 || count > countMax) throw new InvalidArgumentError(`It must be a number from 1 to ${countMax}.`);
  return count;
}
