import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { reasonToSkipLong } from '../../test/thorough.ts';
import { createLineReader } from './import-lines.ts';
import { type FileFormat, readRecords, recordMaxBytes } from './import-records.ts';
import { createSeenSet } from './import-seen.ts';
import { parseTime } from './import-time.ts';
import { escapeCell, renderRow, unescapeCell } from './spreadsheet.ts';

async function* inPieces(text: Buffer, sizes: Iterable<number>): AsyncGenerator<Buffer> {
  let from = 0;
  for (const size of sizes) {
    yield text.subarray(from, from + size);
    from += size;
  }
  yield text.subarray(from);
}

async function read(source: AsyncIterable<Buffer>, format: FileFormat): Promise<[number, string | undefined][]> {
  const found: [number, string | undefined][] = [];
  for await (const records of readRecords(source, format)) {
    for (const { line, bytes } of records) found.push([line, bytes?.toString()]);
  }
  return found;
}

describe('cutting a file into records', () => {
  test('an empty line is counted, and a carriage return, a byte order mark and the lack of a last line break are nothing', async () => {
    const text = Buffer.from('\ufeff{"a":1}\r\n\r\n\n{"b":2}\n{"c":3}');
    for (const sizes of [[], [1], [2, 1], [3], Array(text.length).fill(1)]) {
      const found = await read(inPieces(text, sizes), 'ndjson');
      assert.deepEqual(found, [
        [1, '{"a":1}'],
        [4, '{"b":2}'],
        [5, '{"c":3}'],
      ]);
    }
  });

  test('in CSV a line break within quotes belongs to the record, and a stray quote costs one record', async () => {
    const text = Buffer.from('\ufeffa,b\r\n"1\n""2""\r\n",x\n\nb"c\n"d"e\n4,"5"\n"6\n7');
    for (const sizes of [[], [5], Array(text.length).fill(1)]) {
      const found = await read(inPieces(text, sizes), 'csv');
      assert.deepEqual(found, [
        [1, 'a,b'],
        [2, '"1\n""2""\r\n",x'],
        [6, 'b"c'],
        [7, '"d"e'],
        [8, '4,"5"'],
        [9, '"6\n7'],
      ]);
    }
  });

  test('what was written as a row is read as that row, in pieces of any size', async () => {
    const cell = fc.oneof(
      fc.string({ unit: 'grapheme' }),
      fc.constantFrom('\n', '\r\n', '"', ',', "'=1", '=1', ' x ', ''),
    );
    const row = fc.array(cell, { minLength: 2, maxLength: 4 });
    const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(fc.array(row, { maxLength: 8 }), sizes, async (rows, pieces) => {
        const kept = rows.map((cells) => [`${cells[0]}x`, ...cells.slice(1, 2)].map((text) => text.toWellFormed()));
        const text = Buffer.from(`email,name\r\n${kept.map(renderRow).join('')}`);
        const reader = createLineReader('csv', { ignoreUnknown: false });
        const found: unknown[] = [];
        for await (const records of readRecords(inPieces(text, pieces), 'csv')) {
          for (const line of reader(records)) found.push('fields' in line ? line.fields : line);
        }
        const expected = kept.map(([email, name]) => (name === '' ? { email } : { email, name }));
        assert.deepEqual(found, expected);
      }),
    );
  });

  for (const format of ['ndjson', 'csv'] as const) {
    const skip = format === 'csv' && reasonToSkipLong;
    test(`of a line of a gigabyte (${format}) nothing is kept, and the next one is read`, { skip }, async (t) => {
      const chunk = Buffer.alloc(1024 * 1024, format === 'csv' ? '"x\n' : 'x');
      async function* pieces(): AsyncGenerator<Buffer> {
        if (format === 'csv') yield Buffer.from('a,"');
        for (let mebibytes = 0; mebibytes < 1024; mebibytes += 1) yield format === 'csv' ? chunk.fill('x\n') : chunk;
        yield Buffer.from(format === 'csv' ? '"\n4,5\n' : '\n{"next":1}\n');
      }
      const before = process.memoryUsage().rss;
      let peak = before;
      const watched = async function* () {
        for await (const piece of pieces()) {
          peak = Math.max(peak, process.memoryUsage().rss);
          yield piece;
        }
      };
      const found = await read(watched(), format);
      assert.deepEqual(
        found.map(([, text]) => text),
        [undefined, format === 'csv' ? '4,5' : '{"next":1}'],
      );
      const grownMebibytes = Math.round((peak - before) / 2 ** 20);
      t.diagnostic(`grew by ${grownMebibytes} MiB`);
      assert.ok(grownMebibytes < 64, `${grownMebibytes} MiB`);
    });
  }

  test('a record of the longest length is read, and one byte more is too long', async () => {
    const text = Buffer.from(`${'x'.repeat(recordMaxBytes)}\n${'x'.repeat(recordMaxBytes + 1)}\n`);
    const found = await read(inPieces(text, [1_000, 64_000]), 'ndjson');
    assert.deepEqual(
      found.map(([, bytes]) => bytes?.length),
      [recordMaxBytes, undefined],
    );
  });
});

describe('what a file has named before', () => {
  test('is known, and nothing else', () => {
    const seen = createSeenSet();
    const names = Array.from({ length: 20_000 }, (_, index) => `user-${index}@example.com`);
    for (const name of names) {
      assert.equal(seen.has(name), false);
      seen.add(name);
      seen.add(name);
      assert.equal(seen.has(name), true);
    }
    assert.ok(names.every((name) => seen.has(name)));
  });
});

describe('cells for a spreadsheet', () => {
  test('none begins as a formula does, and each is read back as it was', () => {
    const risky = fc.constantFrom('=', '+', '-', '@', '\t', '\r', "'");
    const cell = fc.tuple(fc.array(risky, { maxLength: 3 }), fc.string()).map(([head, tail]) => head.join('') + tail);
    fc.assert(
      fc.property(cell, (text) => {
        const escaped = escapeCell(text);
        assert.doesNotMatch(escaped, /^[=+\-@\t\r]/);
        assert.equal(unescapeCell(escaped), text);
      }),
    );
    assert.equal(escapeCell('=HYPERLINK("http://evil.example")'), '\'=HYPERLINK("http://evil.example")');
    assert.equal(escapeCell("O'Brien"), "O'Brien");
  });
});

describe('times', () => {
  test('are read as RFC 3339 and PostgreSQL write them, and nothing that could mean two moments is', () => {
    const expected = Date.UTC(2024, 1, 29, 12, 30, 15);
    for (const text of ['2024-02-29T12:30:15Z', '2024-02-29 12:30:15+00', '2024-02-29T13:30:15.000+01:00']) {
      assert.equal(parseTime(text), expected, text);
    }
    assert.equal(parseTime('2024-02-29 09:30:15.123456789-0300'), expected + 123);
    for (const text of [
      '2023-02-29T12:30:15Z',
      '2024-02-29T24:00:00Z',
      '2024-02-29T12:30:15',
      '2024-02-29T12:30:15+99',
      '',
    ]) {
      assert.equal(parseTime(text), undefined, text);
    }
  });
});
