import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { CopyRow } from './copy-tables.ts';
import { compareRows } from './copy-verify.ts';

const columns = ['user_id', 'role_name', 'note'].map((name) => ({ name, type: 'text' }));
const table = { name: 'user_roles', key: ['user_id', 'role_name'], columns };
const rows: CopyRow[] = ['a', 'b', 'c'].map((id) => [id, 'user', null]);

describe('the comparison after a copy', () => {
  test('counts rows that are the same', async () => {
    assert.equal(await compare(rows, rows), 3);
    assert.equal(await compare([], []), 0);
  });

  const cases: [string, CopyRow[], string][] = [
    ['the first row is missing', rows.slice(1), 'a'],
    ['a row in the middle is missing', rows.toSpliced(1, 1), 'b'],
    ['the last row is missing', rows.slice(0, 2), 'c'],
    ['every row is missing', [], 'a'],
    ['a row was added at the end', [...rows, ['d', 'user', null]], 'd'],
    ['a cell differs', rows.with(1, ['b', 'user', '']), 'b'],
    ['a key differs', rows.with(2, ['C', 'user', null]), 'c'],
    ['a cell is missing', rows.with(0, ['a', 'user']), 'a'],
  ];
  for (const [title, readBack, id] of cases) {
    test(`names the row when ${title}`, async () => {
      const named = `: the row of user_roles with user_id "${id}" and role_name "user" is missing, added or different`;
      await assert.rejects(compare(rows, readBack), (error: Error) => error.message.includes(named));
    });
  }
});

function compare(sent: CopyRow[], readBack: CopyRow[]): Promise<number> {
  async function* stream() {
    yield* readBack;
  }
  return compareRows(table, sent, stream(), () => {});
}
