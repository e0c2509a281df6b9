import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { sql } from 'kysely';
import { onDatabase } from '../../test/database.ts';
import { backends } from '../../test/system.ts';
import { copiedTables, matchTable, tablesThatMustBeEmpty } from './copy-tables.ts';

for (const backend of backends) {
  describe(`the tables that a copy knows (${backend})`, () => {
    test('are all that the migrations make: what is added must be copied, or left out on purpose', () =>
      onDatabase(backend, async ({ db }) => {
        const list =
          backend === 'sqlite+memory'
            ? sql<{ name: string }>`select name from sqlite_schema where type = 'table' and name not like 'sqlite%'`
            : sql<{ name: string }>`select tablename as name from pg_tables where schemaname = current_schema()`;
        const names = (await list.execute(db)).rows.map(({ name }) => name).filter((name) => !/^kysely_/.test(name));
        assert.deepEqual(names.sort(), [...tablesThatMustBeEmpty, 'roles'].sort());
        assert.deepEqual(names, [...copiedTables.map(({ name }) => name), 'leases'].sort());
      }));

    test('are put in order by their primary keys', () =>
      onDatabase(backend, async ({ db }) => {
        for (const { name, key } of copiedTables) {
          const list =
            backend === 'sqlite+memory'
              ? sql<{ name: string }>`select name from pragma_table_info(${name}) where pk > 0 order by pk`
              : sql<{ name: string }>`select attname as name from pg_index
                  cross join lateral unnest(indkey) with ordinality as part (attnum, place)
                  join pg_attribute on attrelid = indrelid and pg_attribute.attnum = part.attnum
                  where indrelid = ${name}::regclass and indisprimary order by place`;
          const columns = (await list.execute(db)).rows.map((column) => column.name);
          assert.deepEqual(columns, key, name);
        }
      }));
  });
}

describe('a table of a copy', () => {
  const table = { name: 'users', key: ['id'] };

  test('must have the same columns here and there, in any order', () => {
    const columns = ['id', 'email'].map((name) => ({ name, type: 'text' }));
    assert.deepEqual(matchTable(table, ['email', 'id'], columns), { ...table, columns });
    const message = 'The table users has the columns email, extra, id in the source, and email, id in the target.';
    assert.throws(() => matchTable(table, ['id', 'email', 'extra'], columns), { name: 'CopyRefusedError', message });
  });

  test('must not have a column of a type whose crossing nobody has thought about', () => {
    const columns = [{ name: 'id', type: 'boolean' }];
    assert.throws(() => matchTable(table, ['id'], columns), /nobody has said how users\.id \(boolean\) is copied/);
  });
});
