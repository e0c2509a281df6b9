import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { catalogue, type Definition, isClosed } from '../src/metrics/catalogue.ts';
import { createProcessMetrics } from '../src/metrics/metrics.ts';
import { call } from './client.ts';
import { parseMetrics } from './metrics.ts';
import { reasonToSkipPromtool, runPromtool } from './promtool.ts';
import { startSystem } from './system.ts';

const root = join(import.meta.dirname, '..');
const folder = join(root, 'deploy/prometheus');
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const rules = read('deploy/prometheus/alerts.yml');
const alerts = [...rules.matchAll(/^ +- alert: (\w+)$/gm)].map(([, name = '']) => name);

// Set by Prometheus itself for everything that it scrapes.
const labelsOfTargets = ['job', 'instance'];
const metricsOfPrometheus: Record<string, string[]> = { up: [] };

/** Every metric by its name, with its labels. The series of a histogram have names of their own. */
async function listMetrics(): Promise<Map<string, string[]>> {
  const known = new Map(Object.entries(metricsOfPrometheus));
  for (const { type, name, labels } of Object.values<Definition>(catalogue)) {
    const suffixes = type === 'histogram' ? ['_bucket', '_sum', '_count'] : [''];
    for (const suffix of suffixes)
      known.set(name + suffix, [...Object.keys(labels), ...(suffix === '_bucket' ? ['le'] : [])]);
  }
  const { render } = createProcessMetrics();
  for (const { name, labels } of parseMetrics(await render())) known.set(name, Object.keys(labels));
  return known;
}

type Query = { where: string; expr: string };

function listRuleQueries(): Query[] {
  const entries = rules.split(/^ {6}- (?=alert|record)/m).slice(1);
  return entries.map((entry) => {
    const where = /^(?:alert|record): (\S+)/.exec(entry)?.[1] ?? '';
    const expr = /^ {8}expr: (?:\|\n((?: {10}.*\n)+)|(.+)\n)/m.exec(entry);
    return { where, expr: expr?.[1] ?? expr?.[2] ?? '' };
  });
}

type Panel = { id: number; type: string; title: string; gridPos: { x: number; y: number; w: number; h: number } } & {
  targets?: { expr: string }[];
};
const dashboard = JSON.parse(read('deploy/grafana/latchkey.json')) as {
  uid: string;
  panels: Panel[];
  templating: { list: { name: string; type: string; definition?: string }[] };
};

function listPanelQueries(): Query[] {
  const queries = dashboard.panels.flatMap(({ title, targets = [] }) =>
    targets.map(({ expr }) => ({ where: title, expr })),
  );
  const variables = dashboard.templating.list.flatMap(({ name, definition }) => {
    const metric = /^label_values\((.+), \w+\)$/.exec(definition ?? '')?.[1];
    return metric === undefined ? [] : [{ where: name, expr: metric }];
  });
  return [...queries, ...variables];
}

const recorded = [...rules.matchAll(/^ +- record: (\S+)$/gm)].map(([, name = '']) => name);
const words =
  /\b(?:sum|min|max|count|rate|increase|histogram_quantile|absent|and|or|by|label_values)\b|\$\w+|\[[^\]]+\]/g;

/** What a query says of metrics: selectors with their labels, and the labels that it groups by. */
function readQuery(expr: string) {
  const groups = [...expr.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, list = '']) =>
    list.split(',').map((name) => name.trim()),
  );
  const rest = expr.replaceAll(/\bby \([^)]*\)/g, ' ').replaceAll(words, ' ');
  const selectors = [...rest.matchAll(/([a-z][a-z0-9_:]*)(?:\{([^}]*)\})?/g)].map(([, name = '', matchers = '']) => ({
    name,
    matchers: [...matchers.matchAll(/(\w+)(?:=~|!~|!=|=)"([^"]*)"/g)].map(([, label = '', value = '']) => ({
      label,
      value,
    })),
  }));
  return { groups, selectors };
}

describe('the alert rules and the dashboard', () => {
  let known: Map<string, string[]>;
  const queries = [...listRuleQueries(), ...listPanelQueries()];
  before(async () => {
    known = await listMetrics();
  });

  test('ask only for metrics that there are, by labels that these have', () => {
    assert.ok(queries.length > 50);
    const faults = queries.flatMap(({ where, expr }) => {
      const { groups, selectors } = readQuery(expr);
      assert.ok(selectors.length > 0, `${where}: ${expr}`);
      const unknown = selectors
        .filter(({ name }) => !known.has(name) && !recorded.includes(name))
        .map(({ name }) => name);
      const labels = new Set([...selectors.flatMap(({ name }) => known.get(name) ?? []), ...labelsOfTargets]);
      const wrongLabels = selectors.flatMap(({ name, matchers }) => {
        const own = [...(known.get(name) ?? []), ...labelsOfTargets];
        return matchers.filter(({ label }) => !own.includes(label)).map(({ label }) => `${name}{${label}}`);
      });
      const wrongGroups = groups.filter((label) => !labels.has(label));
      return [...unknown, ...wrongLabels, ...wrongGroups].map((fault) => `${where}: ${fault}`);
    });
    assert.deepEqual(faults, []);
  });

  test('ask only for values that a closed label can have', () => {
    const definitions = new Map(
      Object.values<Definition>(catalogue).map((definition) => [definition.name, definition]),
    );
    const faults = queries.flatMap(({ where, expr }) =>
      readQuery(expr).selectors.flatMap(({ name, matchers }) => {
        const labels = definitions.get(name)?.labels ?? {};
        return matchers.flatMap(({ label, value }) => {
          const values = labels[label];
          if (values === undefined || !isClosed(values)) return [];
          const missing = value.split('|').filter((word) => !values.includes(word));
          return missing.map((word) => `${where}: ${name}{${label}="${word}"}`);
        });
      }),
    );
    assert.deepEqual(faults, []);
  });

  test('show and watch every metric of the service in at least one place', () => {
    const used = new Set(queries.flatMap(({ expr }) => readQuery(expr).selectors.map(({ name }) => name)));
    const unseen = Object.values<Definition>(catalogue).filter(
      ({ name }) => !used.has(name) && !used.has(`${name}_bucket`),
    );
    assert.deepEqual(
      unseen.map(({ name }) => name),
      [],
    );
  });
});

describe('the dashboard', () => {
  test('has panels with ids and places of their own, all with a data source that can be chosen', () => {
    const ids = dashboard.panels.map(({ id }) => id);
    assert.equal(new Set(ids).size, ids.length);
    const text = JSON.stringify(dashboard);
    assert.ok(!/"uid":"(?!latchkey"|\$\{datasource\}")/.test(text), 'a data source is named');
    assert.deepEqual(
      dashboard.templating.list.map(({ name }) => name),
      ['datasource', 'job', 'instance'],
    );
    const taken = new Set<string>();
    for (const { title, gridPos } of dashboard.panels) {
      assert.ok(gridPos.x + gridPos.w <= 24, title);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
          assert.ok(!taken.has(`${x},${y}`), `${title} lies on another panel`);
          taken.add(`${x},${y}`);
        }
      }
    }
  });
});

describe('the alert rules', () => {
  test('have a severity, a summary, a description and a section in docs/monitoring.md each', () => {
    const page = read('docs/monitoring.md');
    const sections = [...page.matchAll(/^### (\w+)$/gm)].map(([, title = '']) => title);
    assert.deepEqual(
      sections.filter((title) => title.startsWith('Latchkey')),
      alerts,
    );
    for (const entry of rules.split(/^ {6}- alert: /m).slice(1)) {
      const name = /^\w+/.exec(entry)?.[0] ?? '';
      for (const part of [
        /^ {10}severity: (?:critical|warning)$/m,
        /^ {10}summary: ".+"$/m,
        /^ {10}description: ".+"$/m,
      ])
        assert.match(entry, part, name);
      assert.ok(entry.includes(`runbook: docs/monitoring.md#${name.toLowerCase()}\n`), name);
    }
  });

  test('have each a case in which they fire and one in which they are silent', () => {
    const cases = read('deploy/prometheus/alerts.test.yml')
      .split(/^ {2}- name: /m)
      .slice(1);
    for (const alert of alerts) {
      const own = cases.filter((text) => text.includes(`alertname: ${alert}\n`));
      assert.ok(
        own.some((text) => text.includes('exp_alerts:\n')),
        `${alert} never fires`,
      );
      assert.ok(
        own.some((text) => text.includes('exp_alerts: []')),
        `${alert} is never silent`,
      );
    }
  });

  const skip = reasonToSkipPromtool();
  test('are what promtool takes, and fire when they must and not otherwise', { skip }, () => {
    for (const args of [
      ['check', 'rules', 'alerts.yml'],
      ['check', 'config', '--syntax-only', 'prometheus.yml'],
      ['test', 'rules', 'alerts.test.yml'],
    ]) {
      const { status, output } = runPromtool(args, { cwd: folder });
      assert.equal(status, 0, output);
    }
  });

  test('and the dashboard hold only queries that promtool can parse', { skip }, () => {
    const scratch = mkdtempSync(join(tmpdir(), 'latchkey-queries-'));
    try {
      const values: Record<string, string> = { $job: '.+', $instance: '.+', $__rate_interval: '1m' };
      const exprs = listPanelQueries().map(({ expr }) => expr.replaceAll(/\$\w+/g, (name) => values[name] ?? name));
      const rulesOfPanels = exprs.map((expr, index) => ({ record: `panel:${index}`, expr }));
      // JSON is YAML.
      writeFileSync(
        join(scratch, 'panels.yml'),
        JSON.stringify({ groups: [{ name: 'panels', rules: rulesOfPanels }] }),
      );
      const { status, output } = runPromtool(['check', 'rules', 'panels.yml'], { cwd: scratch });
      assert.equal(status, 0, output);
      assert.match(output, new RegExp(`SUCCESS: ${exprs.length} rules found`));
    } finally {
      rmSync(scratch, { recursive: true, force: true });
    }
  });

  test('are for metrics that promtool finds no fault with', { skip }, async () => {
    const system = await startSystem('sqlite+memory');
    try {
      await call(system, { method: 'GET', path: '/users/me' });
      const { status, output } = runPromtool(['check', 'metrics'], { input: await system.deps.scrape() });
      assert.deepEqual([status, output], [0, '']);
    } finally {
      await system.close();
    }
  });
});
