import { CopyRefusedError } from './copy-refusal.ts';
import { type CopyRow, type CopyTable, nameRow } from './copy-tables.ts';

const rowsPerReport = 1_000;

/**
 * Compares every row of a table with what was read back, both in the order of the primary key, and returns how many
 * there are. Throws at the first that is missing, added or different.
 */
export async function compareRows(
  table: CopyTable,
  sent: Iterable<CopyRow>,
  readBack: AsyncIterable<CopyRow>,
  onRows: (compared: number) => void,
): Promise<number> {
  let compared = 0;
  const expected = Iterator.from(sent);
  for await (const found of readBack) {
    const { value, done } = expected.next();
    if (done || !isSameRow(value, found)) throw unfaithful(table, value ?? found);
    compared += 1;
    if (compared % rowsPerReport === 0) onRows(compared);
  }
  const { value, done } = expected.next();
  if (!done) throw unfaithful(table, value);
  return compared;
}

function isSameRow(one: CopyRow, other: CopyRow): boolean {
  return one.length === other.length && one.every((cell, index) => cell === other[index]);
}

function unfaithful(table: CopyTable, row: CopyRow): CopyRefusedError {
  return new CopyRefusedError(
    `The target does not give back what was sent: ${nameRow(table, row)} is missing, added or different there. ` +
      'Something in the target changes rows, such as a trigger or a rule. Use a new, empty database.',
  );
}
