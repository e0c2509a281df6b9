/** The two forms of a file. */
export type FileFormat = 'ndjson' | 'csv';

/** One record of a file, without the line break at its end. One that is too long has no bytes. */
export type FileRecord = { line: number; bytes: Buffer | undefined };

/** Bytes of one record at most: `metadata` of 8 KiB with all of it escaped, and the rest. */
export const recordMaxBytes = 64 * 1024;

const lineFeed = 0x0a;
const carriageReturn = 0x0d;
const quote = 0x22;
const comma = 0x2c;
const byteOrderMark = Buffer.from([0xef, 0xbb, 0xbf]);

/**
 * Cuts a stream into records, as many at once as each chunk holds. Whatever the file holds, one record is all that is
 * kept of it: of one that is too long the rest is read and forgotten. Empty lines are left out, and counted.
 */
export async function* readRecords(source: AsyncIterable<Buffer>, format: FileFormat): AsyncGenerator<FileRecord[]> {
  const scan = format === 'csv' ? createCsvScanner() : createLineScanner();
  let pieces: Buffer[] = [];
  let length = 0;
  let line = 1;

  const keep = (piece: Buffer) => {
    length += piece.length;
    if (length > recordMaxBytes) pieces = [];
    // A copy, because a view would keep the whole chunk that it is of.
    else if (piece.length > 0) pieces.push(Buffer.from(piece));
  };
  const take = (lines: number): FileRecord | undefined => {
    const bytes = length > recordMaxBytes ? undefined : withoutReturn(Buffer.concat(pieces));
    const record = { line, bytes };
    pieces = [];
    length = 0;
    line += lines;
    return bytes?.length === 0 ? undefined : record;
  };

  for await (const chunk of withoutByteOrderMark(source)) {
    const records: FileRecord[] = [];
    let from = 0;
    for (let end = scan(chunk, from); end !== undefined; end = scan(chunk, from)) {
      keep(chunk.subarray(from, end.at));
      const record = take(end.lines);
      if (record !== undefined) records.push(record);
      from = end.at + 1;
    }
    keep(chunk.subarray(from));
    yield records;
  }
  const last = length === 0 ? undefined : take(1);
  if (last !== undefined) yield [last];
}

/** Finds where the record ends that goes on at `from`, and how many lines it has had; remembers what it has seen. */
type Scanner = (chunk: Buffer, from: number) => { at: number; lines: number } | undefined;

function createLineScanner(): Scanner {
  return (chunk, from) => {
    const at = chunk.indexOf(lineFeed, from);
    return at < 0 ? undefined : { at, lines: 1 };
  };
}

/**
 * RFC 4180: a line break within quotes belongs to its cell. A quote opens a cell only where the cell begins; one elsewhere
 * is left to the parser, which refuses it, so that a stray quote costs its own record and not those behind it.
 */
function createCsvScanner(): Scanner {
  let place: 'start' | 'bare' | 'quoted' | 'closed' = 'start';
  let lines = 1;
  return (chunk, from) => {
    for (let at = from; at < chunk.length; at += 1) {
      const byte = chunk[at];
      if (place === 'quoted') {
        if (byte === quote) place = 'closed';
        else if (byte === lineFeed) lines += 1;
      } else if (byte === lineFeed) {
        const end = { at, lines };
        place = 'start';
        lines = 1;
        return end;
      } else if (byte === comma) place = 'start';
      // A quote after the one that closed the cell: the two stand for one, and the cell goes on.
      else if (byte === quote && (place === 'start' || place === 'closed')) place = 'quoted';
      else place = 'bare';
    }
    return undefined;
  };
}

/** Spreadsheets write a byte order mark; it can arrive in pieces. */
async function* withoutByteOrderMark(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let head: Buffer | undefined = Buffer.alloc(0);
  for await (const chunk of source) {
    if (head === undefined) {
      yield chunk;
      continue;
    }
    head = Buffer.concat([head, chunk]);
    if (head.length < byteOrderMark.length) continue;
    yield head.subarray(0, byteOrderMark.length).equals(byteOrderMark) ? head.subarray(byteOrderMark.length) : head;
    head = undefined;
  }
  if (head !== undefined) yield head;
}

function withoutReturn(bytes: Buffer): Buffer {
  return bytes.at(-1) === carriageReturn ? bytes.subarray(0, -1) : bytes;
}
