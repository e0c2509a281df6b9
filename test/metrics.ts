import assert from 'node:assert/strict';
import type { ComponentState } from '../src/metrics/metrics.ts';
import type { System } from './system.ts';

/** One line of the text format. */
export type Sample = { name: string; labels: Record<string, string>; value: number };

const linePattern = /^([a-z_][a-z0-9_]*)(?:\{(.*)\})? (\S+)$/;
const labelPattern = /([a-z_]+)="((?:[^"\\]|\\.)*)"(?:,|$)/y;

/** Parses Prometheus' text format strictly: whatever is no sample, comment or empty line fails. */
export function parseMetrics(text: string): Sample[] {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('# '));
  return lines.map((line) => {
    const [, name = '', labels = '', value] = linePattern.exec(line) ?? [];
    assert.ok(name, `no sample: ${line}`);
    return { name, labels: parseLabels(labels), value: Number(value) };
  });
}

function parseLabels(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  labelPattern.lastIndex = 0;
  while (labelPattern.lastIndex < text.length) {
    const at = labelPattern.lastIndex;
    const [, name = '', value = ''] = labelPattern.exec(text) ?? [];
    assert.ok(name, `no label at ${at}: ${text}`);
    labels[name] = value;
  }
  return labels;
}

const unknownState: ComponentState = {
  up: { database: false, ephemeral: false, mail: false },
  outbox: undefined,
  hashWaiting: 0,
  pool: undefined,
};

/** Reads what was counted so far, without a look at the components and so without their cache. */
export async function readCounts({ deps }: System): Promise<Map<string, number>> {
  const samples = parseMetrics(await deps.metrics.render(unknownState));
  return new Map(
    samples
      .filter(({ name }) => /_(?:total|count)$/.test(name))
      .map(({ name, labels, value }) => [`${name}${describe(labels)}`, value]),
  );
}

/** What an act counted: each counter that moved, with by how much. Requests have a test of their own. */
export async function countedBy(system: System, act: () => Promise<unknown>): Promise<Record<string, number>> {
  const before = await readCounts(system);
  await act();
  const moved = [...(await readCounts(system))].flatMap(([key, value]) => {
    const by = value - (before.get(key) ?? 0);
    return by === 0 || key.startsWith('latchkey_http_') ? [] : [[key.replace(/^latchkey_/, ''), by] as const];
  });
  return Object.fromEntries(moved.sort(([a], [b]) => a.localeCompare(b)));
}

function describe(labels: Record<string, string>): string {
  const parts = Object.entries(labels).map(([name, value]) => `${name}=${value}`);
  return parts.length === 0 ? '' : `{${parts.join(',')}}`;
}
