import { promisedRatios, startBounds } from '../bench/budgets.ts';
import type { Results, StartResult, WorkName, WorkResult } from '../bench/results.ts';
import { titleOf } from '../bench/results.ts';
import { findReference } from '../bench/table.ts';
import { escapeHtml } from '../src/escape-html.ts';

/** A group of bars that are compared with each other. */
type Panel = { title: string; bars: Bar[] };

/** One bar; the mark shows how far it must reach at least, or may reach at most. */
type Bar = { label: string; value: number; text: string; mark?: number; isOwn: boolean };

const panelsOfWorks: readonly { title: string; works: readonly WorkName[] }[] = [
  { title: 'Requests a second', works: ['bare', 'me', 'me_first', 'refresh'] },
  { title: 'Logins a second, beside the hash function alone', works: ['hash', 'login'] },
  { title: 'Reads a second without and with a storm of logins', works: ['me_before_storm', 'me_in_storm'] },
  { title: 'Logins a second in that storm', works: ['storm'] },
];
const width = 960;
const labelWidth = 430;
const barsWidth = 420;
const figureWidth = 60;
const barHeight = 18;
const rowHeight = 24;
const titleHeight = 34;
const colours = { own: '#2563a8', other: '#9aa5b1', mark: '#c2410c', text: '#1f2933', ground: '#ffffff' };

/** Draws every work and every start of a run as bars; an orange line is the bound of its budget. */
export function renderPlot(results: Results): string {
  const parts: string[] = [];
  let top = 12;
  for (const { title, bars } of makePanels(results)) {
    parts.push(text(12, top + 20, title, 'font-weight="bold"'));
    top += titleHeight;
    const longest = Math.max(...bars.flatMap(({ value, mark = 0 }) => [value, mark]));
    for (const bar of bars) {
      parts.push(drawBar(bar, top, longest));
      top += rowHeight;
    }
    top += 10;
  }
  const described = `Bars of what was measured on ${results.takenAt.slice(0, 10)}; the same figures are in docs/performance.md.`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${top}" width="${width}" height="${top}" role="img"`,
    `  font-family="system-ui, sans-serif" font-size="13" fill="${colours.text}">`,
    `<title>${escapeHtml(described)}</title>`,
    `<rect width="${width}" height="${top}" fill="${colours.ground}"/>`,
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}

function makePanels({ works: all, starts }: Results): Panel[] {
  const panels = panelsOfWorks.map(({ title, works: names }) => ({
    title,
    bars: all.filter(({ work }) => names.includes(work)).map((work) => barOfWork(work, all)),
  }));
  const ready = starts.map((start) => barOfStart(start, 'readyMs', 'ms'));
  const idle = starts.map((start) => barOfStart(start, 'idleMegabytes', 'MB'));
  return [
    ...panels,
    { title: 'Start to ready, milliseconds', bars: ready },
    { title: 'Idle memory, megabytes', bars: idle },
  ].filter(({ bars }) => bars.length > 0);
}

function barOfWork(result: WorkResult, all: readonly WorkResult[]): Bar {
  const { work, server, users, ratePerSecond } = result;
  const isOwn = server === 'latchkey';
  const value = ratePerSecond.median;
  const bound = promisedRatios.find((promise) => promise.work === work)?.bound;
  const reference = findReference(all, result);
  return {
    label: [titleOf(result), ...(users === null ? [] : [server, `${users.toLocaleString('en')} users`])].join(', '),
    value,
    text: value < 100 ? value.toFixed(1) : Math.round(value).toLocaleString('en'),
    ...(isOwn && reference !== undefined && bound !== undefined
      ? { mark: reference.ratePerSecond.median * bound }
      : {}),
    isOwn,
  };
}

function barOfStart(start: StartResult, what: keyof typeof startBounds, unit: string): Bar {
  const { name, server, users } = start;
  const value = start[what].median;
  return {
    label: `${server}, ${users === null ? '' : `${users.toLocaleString('en')} users, `}${name}`,
    value,
    text: `${Math.round(value)} ${unit}`,
    ...(server === 'latchkey' ? { mark: startBounds[what] } : {}),
    isOwn: server === 'latchkey',
  };
}

function drawBar({ label, value, text: shown, mark, isOwn }: Bar, top: number, longest: number): string {
  const scale = (of: number) => Math.round((of / longest) * barsWidth * 10) / 10;
  // Or the mark would be drawn through the figure.
  const isNearMark = mark !== undefined && mark > value && scale(mark - value) < figureWidth;
  const colour = isOwn ? colours.own : colours.other;
  const parts = [
    text(labelWidth - 8, top + 13, label, 'text-anchor="end"'),
    `<rect x="${labelWidth}" y="${top}" width="${Math.max(1, scale(value))}" height="${barHeight}" fill="${colour}"/>`,
    text(labelWidth + scale(isNearMark ? mark : value) + 6, top + 13, shown),
  ];
  if (mark !== undefined) {
    const x = labelWidth + scale(mark);
    parts.push(`<path d="M${x} ${top - 3}v${barHeight + 6}" stroke="${colours.mark}" stroke-width="2"/>`);
  }
  return parts.join('\n');
}

function text(x: number, y: number, words: string, attributes = ''): string {
  return `<text x="${x}" y="${y}"${attributes === '' ? '' : ` ${attributes}`}>${escapeHtml(words)}</text>`;
}
