import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { parse } from 'yaml';
import packageJson from '../package.json' with { type: 'json' };

const root = join(import.meta.dirname, '..');
const folder = join(root, '.github/workflows');

type Step = { uses?: string; run?: string; with?: Record<string, unknown> };
type Job = {
  permissions?: Record<string, string>;
  'timeout-minutes'?: number;
  steps: Step[];
  services?: Record<string, { image: string }>;
};
type Workflow = { permissions: object; concurrency?: object; on: object; jobs: Record<string, Job> };

const workflows = readdirSync(folder).map((name) => {
  const text = readFileSync(join(folder, name), 'utf8');
  return { name, text, workflow: parse(text) as Workflow };
});
const jobs = workflows.flatMap(({ name, workflow }) =>
  Object.entries(workflow.jobs).map(([id, job]) => ({ where: `${name}: ${id}`, job })),
);
const steps = jobs.flatMap(({ where, job }) => job.steps.map((step) => ({ where, step })));

describe('the workflows', () => {
  test('use every action by its whole commit, with the version beside it', () => {
    const uses = workflows.flatMap(({ text }) => text.match(/^.*\buses: .*$/gm) ?? []);
    assert.ok(uses.length > 10);
    for (const line of uses) assert.match(line, /uses: [\w.-]+\/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
  });

  test('may do nothing but what a job says that it needs', () => {
    for (const { name, workflow } of workflows) {
      assert.deepEqual(workflow.permissions, {}, name);
      assert.ok(workflow.concurrency, name);
    }
    for (const { where, job } of jobs) {
      assert.ok(job.permissions, where);
      assert.ok((job['timeout-minutes'] ?? 0) > 0, where);
      const isRelease = where.startsWith('release.yml');
      const writes = Object.entries(job.permissions)
        .filter(([, level]) => level === 'write')
        .map(([scope]) => scope);
      assert.ok(isRelease || writes.every((scope) => scope === 'security-events'), where);
    }
    assert.ok(!workflows.some(({ workflow }) => 'pull_request_target' in workflow.on));
  });

  test('keep no credentials beside the source', () => {
    const checkouts = steps.filter(({ step }) => step.uses?.startsWith('actions/checkout@'));
    assert.equal(checkouts.length, jobs.length);
    for (const { where, step } of checkouts) assert.equal(step.with?.['persist-credentials'], false, where);
  });

  test('put no expression into a script, where whoever names a branch could write commands', () => {
    for (const { where, step } of steps) assert.doesNotMatch(step.run ?? '', /\$\{\{/, where);
  });

  test('run scripts and npm commands that there are', () => {
    const text = steps.map(({ step }) => step.run ?? '').join('\n');
    const files = [...text.matchAll(/node (\S+\.ts)/g)].map(([, path = '']) => path);
    assert.ok(files.length >= 2);
    for (const path of files) assert.ok(readFileSync(join(root, path)).length > 0);
    for (const [, script = ''] of text.matchAll(/npm run ([\w:-]+)/g)) assert.ok(script in packageJson.scripts, script);
  });

  test('test on the oldest Node.js that is supported and on the one that is pinned', () => {
    const ci = workflows.find(({ name }) => name === 'ci.yml');
    const supported = /^>=(\d+)/.exec(packageJson.engines.node)?.[1];
    const pinned = packageJson.devDependencies.node.split('.')[0];
    assert.match(ci?.text ?? '', new RegExp(`node: \\["${supported}", "${pinned}"\\]`));
    for (const { where, job } of jobs)
      for (const { image } of Object.values(job.services ?? {})) assert.match(image, /@sha256:[0-9a-f]{64}$/, where);
  });
});

test('Dependabot looks after every kind of dependency, and takes nothing on the day that it came out', () => {
  type Update = { 'package-ecosystem': string; directory: string; cooldown?: { 'default-days': number } };
  const { updates } = parse(readFileSync(join(root, '.github/dependabot.yml'), 'utf8')) as { updates: Update[] };
  const kinds = updates.map((update) => update['package-ecosystem']);
  assert.deepEqual(kinds, ['npm', 'docker', 'docker-compose', 'github-actions']);
  for (const { cooldown } of updates) assert.ok((cooldown?.['default-days'] ?? 0) >= 7);
});
