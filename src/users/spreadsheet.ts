/** The column that says of a row whether its cells were made safe for a spreadsheet: `yes`. */
export const escapeColumn = 'spreadsheet_safe';

// What a spreadsheet would take for a formula, and what has been made safe already.
const riskyPattern = /^'*[=+\-@\t\r]/;
const escapedPattern = /^'+[=+\-@\t\r]/;

/** Puts an apostrophe before what a spreadsheet would take for a formula: names are what users say of themselves. */
export function escapeCell(cell: string): string {
  return riskyPattern.test(cell) ? `'${cell}` : cell;
}

/** Takes back what `escapeCell` did. */
export function unescapeCell(cell: string): string {
  return escapedPattern.test(cell) ? cell.slice(1) : cell;
}

/** Writes a row of CSV (RFC 4180), every cell in quotes. */
export function renderRow(cells: readonly string[]): string {
  return `${cells.map((cell) => `"${cell.replaceAll('"', '""')}"`).join(',')}\r\n`;
}
