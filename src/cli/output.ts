import { once } from 'node:events';
import { toRfc3339 } from '../clock.ts';

// Control characters could move the cursor or rewrite what stands above; others turn the order of what follows.
const unprintable = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

/** Makes text that came from outside harmless on a terminal. */
export function printable(text: string): string {
  return text.replaceAll(unprintable, '\u{fffd}');
}

/** Lays out rows below their headings, each column as wide as its widest cell. */
export function renderTable(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [headings, ...rows.map((row) => row.map(printable))];
  const widths = headings.map((_, column) => Math.max(...lines.map((line) => [...(line[column] ?? '')].length)));
  return lines
    .map((line) =>
      line
        .map((cell, column) => pad(cell, widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function pad(cell: string, width: number): string {
  return cell + ' '.repeat(width - [...cell].length);
}

/** Writes a time for people: to the second, in UTC; a dash for one that never was. */
export function showTime(epochMs: number | undefined): string {
  return epochMs === undefined ? '-' : `${toRfc3339(epochMs).slice(0, 19)}Z`;
}

/** Writes a time for a script. */
export function timeForJson(epochMs: number | undefined): string | null {
  return epochMs === undefined ? null : toRfc3339(epochMs);
}

/** Writes values as JSON, one a line, as fast as whoever reads them takes them: a long list is never all in memory. */
export async function printJsonLines(values: readonly unknown[]): Promise<void> {
  const text = values.map((value) => `${JSON.stringify(value)}\n`).join('');
  if (!process.stdout.write(text)) await once(process.stdout, 'drain');
}
