import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import openApi from '../openapi.json' with { type: 'json' };
import packageJson from '../package.json' with { type: 'json' };
import { loadConfig } from '../src/config.ts';
import { environmentSchema, fileVariables } from '../src/config-schema.ts';
import { newSecret } from './config.ts';
import { dockerfileText, readStages } from './dockerfile.ts';

const root = join(import.meta.dirname, '..');
const text = readFileSync(join(root, 'deploy/kubernetes/latchkey.yaml'), 'utf8');
// biome-ignore lint/suspicious/noExplicitAny: what is read from a manifest is asserted on, whatever it is.
type Fields = Record<string, any>;
type Manifest = {
  apiVersion: string;
  kind: string;
  metadata: { name: string; labels: Record<string, string> };
} & Fields;
// YAML 1.1, as Kubernetes reads it, where 0440 is octal.
const manifests = parseAllDocuments(text, { version: '1.1' }).map((document) => document.toJS() as Manifest);
const find = (kind: string): Manifest => {
  const found = manifests.filter((manifest) => manifest.kind === kind);
  assert.equal(found.length, 1, kind);
  return found[0] as Manifest;
};
const pod = find('Deployment')['spec'].template;
const [container] = pod.spec.containers;
const config = find('ConfigMap')['data'];

/** What the compiler says of the manifests as literals of Kubernetes' own types: it knows fields that there are not. */
function compile(literals: readonly Manifest[]): string {
  const cache = join(root, 'node_modules/.cache');
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, 'kubernetes-'));
  try {
    const lines = literals.map((literal, index) => {
      const from = `kubernetes-models/${literal.apiVersion}/${literal.kind}`;
      return `import type { I${literal.kind} } from '${from}';\nexport const m${index}: I${literal.kind} = ${JSON.stringify(literal)};`;
    });
    writeFileSync(join(folder, 'manifests.ts'), lines.join('\n'));
    const options = ['--ignoreConfig', '--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext', '--types', ''];
    return spawnSync(join(root, 'node_modules/.bin/tsc'), [...options, join(folder, 'manifests.ts')], {
      encoding: 'utf8',
    }).stdout;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe('the Kubernetes manifest', () => {
  test('has only fields that Kubernetes has, of their types and within their bounds', async () => {
    assert.equal(compile(manifests), '');
    for (const manifest of manifests) {
      const models = await import(`kubernetes-models/${manifest.apiVersion}/${manifest.kind}`);
      new models[manifest.kind](manifest).validate();
    }
    const wrong = structuredClone(find('Deployment'));
    wrong['spec'].template.spec.containers[0].readinessProb = {};
    assert.match(compile([wrong]), /readinessProb/);
  });

  test('confines the pod', () => {
    const { runAsNonRoot, runAsUser, seccompProfile } = pod.spec.securityContext;
    assert.deepEqual(
      [runAsNonRoot, seccompProfile.type, pod.spec.automountServiceAccountToken],
      [true, 'RuntimeDefault', false],
    );
    const user = readStages(dockerfileText)
      .at(-1)
      ?.steps.find(({ keyword }) => keyword === 'USER')?.text;
    assert.equal(user, `${runAsUser}:${pod.spec.securityContext.runAsGroup}`);
    assert.deepEqual(container.securityContext, {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
    assert.ok(container.resources.limits.memory && container.resources.requests.cpu);
  });

  test('asks for paths that the API has, on ports that the service listens on', () => {
    for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe']) {
      const { path, port } = container[probe].httpGet;
      assert.ok(path in openApi.paths, path);
      assert.equal(port, 'http');
    }
    assert.equal(container.livenessProbe.httpGet.path, '/health/live');
    assert.equal(container.readinessProbe.httpGet.path, '/health/ready');
    const ports = Object.fromEntries(
      container.ports.map((port: { name: string; containerPort: number }) => [port.name, port.containerPort]),
    );
    const { PORT } = loadConfig({ NODE_ENV: 'test', SECRET_KEY: newSecret() }).environment;
    assert.deepEqual(ports, { http: PORT, metrics: Number(config.METRICS_PORT) });
  });

  test('gives the stop the time that it takes', () => {
    const source = readFileSync(join(root, 'src/shutdown.ts'), 'utf8');
    const exitLimitMs = Number(/exitLimitMs = ([\d_]+)/.exec(source)?.[1]?.replace('_', ''));
    const { seconds } = container.lifecycle.preStop.sleep;
    assert.ok(pod.spec.terminationGracePeriodSeconds > seconds + exitLimitMs / 1000);
  });

  test('configures what there is, and takes every secret from a Secret', () => {
    const given: Record<string, string> = { ...config };
    const values: Record<string, string> = {
      SECRET_KEY: newSecret(),
      DATABASE_URL: 'postgres://latchkey@db/latchkey?sslmode=verify-full',
      REDIS_URL: 'rediss://cache',
      SMTP_URL: 'smtps://mail.example.com',
      METRICS_TOKEN: newSecret(),
    };
    const names = container.env.map(({ name }: { name: string }) => name);
    assert.deepEqual(names.toSorted(), fileVariables.map((name) => `${name}_FILE`).toSorted());
    for (const name of Object.keys(config)) assert.ok(name in environmentSchema.properties, name);
    for (const name of fileVariables) given[name] = values[name] ?? '';
    assert.equal(loadConfig({ NODE_ENV: 'production', ...given }).environment.PUBLIC_URL, 'https://auth.example.com');
    const [secrets] = pod.spec.volumes;
    assert.deepEqual(secrets.secret, { secretName: 'latchkey', defaultMode: 0o440 });
    assert.ok(!manifests.some(({ kind }) => kind === 'Secret'));
  });

  test('names this version, and what belongs together by the same labels', () => {
    assert.ok(container.image.endsWith(`/latchkey:v${packageJson.version}`));
    const labels = { 'app.kubernetes.io/name': 'latchkey' };
    for (const { kind, metadata } of manifests) assert.deepEqual(metadata.labels, labels, kind);
    const selectors = [
      find('Deployment')['spec'].selector.matchLabels,
      pod.metadata.labels,
      find('Service')['spec'].selector,
      find('PodDisruptionBudget')['spec'].selector.matchLabels,
      find('NetworkPolicy')['spec'].podSelector.matchLabels,
    ];
    for (const selector of selectors) assert.deepEqual(selector, labels);
  });
});
