import { promisedRatios } from './budgets.ts';
import { type Budget, type Results, type StartResult, titleOf, type WorkResult, works } from './results.ts';

/** A table as rows of cells, the first of them its head. */
type Table = { title: string; rows: string[][] };

/** Makes the tables of a run, for the terminal and for the page alike. */
export function makeTables(results: Results): Table[] {
  const tables = [
    { title: 'Budgets', rows: [budgetHead, ...results.budgets.map(budgetRow)] },
    {
      title: 'Requests',
      rows: [workHead, ...results.works.map((work) => workRow(work, findReference(results.works, work)))],
    },
    {
      title: 'Processor time of each request',
      rows: [
        cpuHead,
        ...results.works
          .filter(({ serverCpu }) => serverCpu !== null)
          .map((work) => cpuRow(work, findReference(results.works, work))),
      ],
    },
    { title: 'Starts', rows: [startHead, ...results.starts.map(startRow)] },
  ];
  for (const { work, owners, functions } of results.profiles) {
    const title = `Where ${works[work]} spends the time of the event loop`;
    tables.push({ title: `${title}, by whose code it is`, rows: [['code', 'share'], ...owners.map(shareRow)] });
    tables.push({ title: `${title}, by function`, rows: [['function', 'share'], ...functions.map(shareRow)] });
  }
  return tables.filter(({ rows }) => rows.length > 1);
}

const budgetHead = ['budget', 'bound', 'measured', ''];

function budgetRow({ name, bound, measured, unit, isMet }: Budget): string[] {
  const format = (value: number) => (unit === 'ratio' ? `${value.toFixed(2)} ×` : `${Math.round(value)} ${unit}`);
  return [name, `${unit === 'ratio' ? '≥' : '<'} ${format(bound)}`, format(measured), isMet ? 'met' : 'NOT MET'];
}

const workHead = [
  'work',
  'server',
  'users',
  'a second (least to most)',
  '× reference',
  'p50 ms',
  'p95 ms',
  'p99 ms',
  'max ms',
];

function workRow(result: WorkResult, reference: WorkResult | undefined): string[] {
  const { ratePerSecond: rate, latencyMs } = result;
  return [
    ...nameOf(result),
    `${formatRate(rate.median)} (${formatRate(rate.min)} to ${formatRate(rate.max)})`,
    reference === undefined ? '' : (rate.median / reference.ratePerSecond.median).toFixed(2),
    ...[latencyMs.p50, latencyMs.p95, latencyMs.p99, latencyMs.max].map((ms) => ms.toFixed(2)),
  ];
}

function nameOf({ work, server, users }: WorkResult): string[] {
  return [titleOf({ work, server }), server, users === null ? '' : users.toLocaleString('en')];
}

const cpuHead = ['work', 'server', 'users', 'server µs', '× reference', 'load µs', 'server busy', 'load busy'];

/** What each request took of the processors, and how many of them server and load generator kept busy. */
function cpuRow(result: WorkResult, reference: WorkResult | undefined): string[] {
  const { serverCpu, generatorCpu } = result;
  const cost = serverCpu?.microsecondsPerRequest;
  const referenceCost = reference?.serverCpu?.microsecondsPerRequest;
  const round = (microseconds: number | undefined) => Math.round(microseconds ?? 0).toLocaleString('en');
  return [
    ...nameOf(result),
    round(cost),
    cost === undefined || referenceCost === undefined ? '' : (referenceCost / cost).toFixed(2),
    round(generatorCpu?.microsecondsPerRequest),
    (serverCpu?.processors ?? 0).toFixed(2),
    (generatorCpu?.processors ?? 0).toFixed(2),
  ];
}

/** What a work is compared with: for a storm the same server without one. */
export function findReference(all: readonly WorkResult[], { work, server, users }: WorkResult): WorkResult | undefined {
  const compared = work === 'me_first' ? 'me' : work;
  const reference = promisedRatios.find((promise) => promise.work === compared)?.against;
  // Each hashes passwords with a function of its own.
  if (reference === 'hash' && server !== 'latchkey') return undefined;
  return all.find(
    (one) => one.work === reference && (one.users === null || (one.users === users && one.server === server)),
  );
}

function formatRate(rate: number): string {
  return rate < 100 ? rate.toFixed(1) : Math.round(rate).toLocaleString('en');
}

const startHead = ['start', 'server', 'users', 'ready ms (least to most)', 'idle MB (least to most)'];

function startRow({ name, server, users, readyMs, idleMegabytes }: StartResult): string[] {
  const format = ({ median, min, max }: StartResult['readyMs']) =>
    `${Math.round(median)} (${Math.round(min)} to ${Math.round(max)})`;
  return [name, server, users === null ? '' : users.toLocaleString('en'), format(readyMs), format(idleMegabytes)];
}

function shareRow({ name, share }: { name: string; share: number }): string[] {
  return [name, `${(share * 100).toFixed(1)} %`];
}

/** Prints tables for a terminal. */
export function printTables(tables: readonly Table[], print: (line: string) => void): void {
  for (const { title, rows } of tables) {
    const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
    print(`\n${title}`);
    for (const row of rows)
      print(
        row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join('  ')
          .trimEnd(),
      );
  }
}

/** Writes a table in Markdown, its columns as wide as their widest cell. */
export function toMarkdown({ rows: cells }: Table): string {
  // The name of a regular expression may hold what ends a cell.
  const rows = cells.map((row) => row.map((cell) => cell.replaceAll('|', '\\|')));
  const widths = (rows[0] ?? []).map((_, column) => Math.max(3, ...rows.map((row) => (row[column] ?? '').length)));
  const line = (cells: readonly string[]) =>
    `| ${widths.map((width, column) => (cells[column] ?? '').padEnd(width)).join(' | ')} |`;
  const [head = [], ...body] = rows;
  return [line(head), `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`, ...body.map(line)].join('\n');
}
