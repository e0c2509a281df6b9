import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import type { OpenAPIV3_1 } from 'openapi-types';
import { type ErrorCode, errorCatalogue } from '../src/errors.ts';
import type { Problem as ProblemDocument } from '../src/http/schemas.ts';
import { call } from './client.ts';
import { startSystem } from './system.ts';

type Problem = ProblemDocument & { code: ErrorCode };

const exampleUrl = 'https://auth.example.com';
const root = join(import.meta.dirname, '..');
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

describe('openapi.json', () => {
  const document: OpenAPIV3_1.Document = JSON.parse(read('openapi.json'));
  const operations = Object.entries(document.paths ?? {}).flatMap(([path, item]) =>
    Object.entries(item ?? {}).map(([method, operation]) => {
      const pointer = `openapi#/paths/${pointerStep(path)}/${method}`;
      return { label: `${method.toUpperCase()} ${path}`, pointer, ...(operation as OpenAPIV3_1.OperationObject) };
    }),
  );
  const responses = operations.flatMap((operation) =>
    Object.entries(operation.responses ?? {}).map(([status, response]) => {
      const { content = {} } = response as OpenAPIV3_1.ResponseObject;
      const pointer = `${operation.pointer}/responses/${status}`;
      return { label: `${operation.label} ${status}`, pointer, status: Number(status), content };
    }),
  );
  const bodies = operations.flatMap(({ label, pointer, requestBody }) =>
    requestBody !== undefined && 'content' in requestBody
      ? [{ label, pointer: `${pointer}/requestBody`, content: requestBody.content }]
      : [],
  );
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  addFormats.default(ajv as never);
  ajv.addSchema({ ...document, $id: 'openapi' });

  type WithExamples = { $ref?: string; examples?: unknown[] };

  const examplesOf = ({ schema, example, examples }: OpenAPIV3_1.MediaTypeObject): unknown[] => {
    if (example !== undefined) return [example];
    if (examples !== undefined) return Object.values(examples).map((named) => ('value' in named ? named.value : named));
    const { $ref, examples: ofSchema } = (schema ?? {}) as WithExamples;
    const component = document.components?.schemas?.[$ref?.split('/').at(-1) ?? ''] as WithExamples | undefined;
    return ofSchema ?? component?.examples ?? [];
  };

  test('is what the service answers at /openapi.json', async () => {
    const system = await startSystem('sqlite+memory', { PUBLIC_URL: exampleUrl, METRICS_TOKEN: 'x'.repeat(32) });
    try {
      const { status, text } = await call(system, { method: 'GET', path: '/openapi.json' });
      assert.equal(status, 200);
      assert.equal(read('openapi.json'), `${JSON.stringify(JSON.parse(text), null, 2)}\n`);
    } finally {
      await system.close();
    }
  });

  test('every operation has a summary, a description, a tag that is described and an id of its own', () => {
    const tags = (document.tags ?? []).filter((tag) => tag.description !== undefined).map((tag) => tag.name);
    const faults = operations.filter(({ summary, description, tags: [tag = ''] = [], operationId }) => {
      const hasOwnId = operations.filter((other) => other.operationId === operationId).length === 1;
      return !summary || !description || !tags.includes(tag) || operationId === undefined || !hasOwnId;
    });
    assert.ok(operations.length >= 10);
    assert.deepEqual(
      faults.map(({ label }) => label),
      [],
    );
  });

  test('every request body and every response with a body has an example', () => {
    const faults = [...bodies, ...responses].flatMap(({ label, content }) =>
      Object.entries(content).flatMap(([type, media]) => (examplesOf(media).length === 0 ? [`${label} ${type}`] : [])),
    );
    assert.ok(bodies.length >= 5);
    assert.deepEqual(faults, []);
  });

  test('every example is valid against its own schema', () => {
    const faults = [...bodies, ...responses].flatMap(({ label, pointer, content }) =>
      Object.entries(content).flatMap(([type, media]) => {
        const check = ajv.compile({ $ref: `${pointer}/content/${pointerStep(type)}/schema` });
        return examplesOf(media).flatMap((example) =>
          check(example) ? [] : [`${label}: ${ajv.errorsText(check.errors)}`],
        );
      }),
    );
    assert.deepEqual(faults, []);
  });

  test('every refusal is documented by an example of each code, with its status, title and section', () => {
    const sections = [...read('docs/errors.md').matchAll(/^## (.+)$/gm)].map(([, title]) => title);
    const problems = responses.flatMap(({ label, status, content }) => {
      const media = content['application/problem+json'];
      const examples = media === undefined ? [] : (examplesOf(media) as Problem[]);
      return examples.map((example) => ({ label: `${label} ${example.code}`, answeredStatus: status, example }));
    });
    const faults = problems.filter(({ answeredStatus, example: { code, status, title, type } }) => {
      const entry = errorCatalogue[code];
      const isCatalogued = entry?.status === status && entry.title === title && sections.includes(code);
      return !isCatalogued || status !== answeredStatus || type !== `${exampleUrl}/docs/errors#${code}`;
    });
    assert.ok(problems.length > 0);
    assert.deepEqual(
      faults.map(({ label }) => label),
      [],
    );
  });

  test('every operation documents a success and what any of them can meet', () => {
    const faults = operations.flatMap(({ label, responses: answers = {} }) => {
      const hasSuccess = Object.keys(answers).some((status) => status.startsWith('2'));
      return hasSuccess && '500' in answers && '503' in answers ? [] : [label];
    });
    assert.deepEqual(faults, []);
  });
});

// One step of a JSON Pointer (RFC 6901) within the fragment of a URI.
function pointerStep(name: string): string {
  return encodeURIComponent(name.replaceAll('~', '~0').replaceAll('/', '~1'));
}
