import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sendCode } from './accounts.ts';
import { call } from './client.ts';
import { type HostileCase, listOperations, type Operation, refuseAll, type Schema } from './hostile-operations.ts';
import { describeOnBackends } from './system.ts';

const inputCodes = ['malformed_json', 'validation_failed', 'unsupported_media_type', 'content_too_large'];

describeOnBackends('hostile input, field by field', {}, (system) => {
  test('every body is a closed object in which every text has a limit', async () => {
    const operations = await listOperations(system());
    assert.ok(operations.length >= 9, 'the OpenAPI document has lost operations');
    for (const { request, bodySchema, fields } of operations) {
      const label = `${request.method} ${request.path}`;
      assert.equal(bodySchema.type, 'object', label);
      assert.equal(bodySchema.additionalProperties, false, label);
      for (const [name, schema] of Object.entries(fields)) {
        const text = textOf(schema);
        const isBounded = text === undefined || text.enum !== undefined || text.maxLength !== undefined;
        assert.ok(isBounded, `${label}: ${name} has no maxLength`);
      }
    }
  });

  test('a value of the wrong type is refused by the name of its field', async () => {
    await refuseAll(system(), (operation) =>
      forEachField(operation, (name, schema) =>
        wrongTypes(schema, operation.sample[name]).map((value) => withField(operation, name, value)),
      ),
    );
  });

  test('a text with NUL or half a surrogate pair is refused by the name of its field', async () => {
    const unstorable = ['\0', 'a\0b', '\ud800', '\udc00', 'a\ud83d', '\udc00\ud800', '\ud83d\ud83d\ude00'];
    await refuseAll(system(), (operation) =>
      forEachField(operation, (name) => unstorable.map((value) => withField(operation, name, value))),
    );
  });

  test('a text of one character too many, too few, or outside its list is refused by the name of its field', async () => {
    await refuseAll(system(), (operation) =>
      forEachField(operation, (name, schema) =>
        textsOutsideLimits(schema).map((value) => withField(operation, name, value)),
      ),
    );
  });

  test('an open object is refused when it is too large or holds what cannot be stored, however deep', async () => {
    const manyMembers = Object.fromEntries(Array.from({ length: 2_000 }, (_, index) => [`k${index}`, index]));
    await refuseAll(system(), (operation) =>
      forEachField(operation, (name, schema) =>
        schema.type !== 'object'
          ? []
          : [
              withField(operation, name, { a: [{ b: '\0' }] }, `/${name}/a/0/b`),
              withField(operation, name, { 'a/b': { '~': '\ud800' } }, `/${name}/a~1b/~0`),
              withField(operation, name, { 'a\0': 1 }, `/${name}/a\0`),
              withField(operation, name, { '\udc00': 1 }, `/${name}/\ufffd`),
              withField(operation, name, { a: 'x'.repeat(30_000) }),
              withField(operation, name, manyMembers),
            ],
      ),
    );
  });

  test('a required field that is missing is named', async () => {
    await refuseAll(system(), ({ bodySchema, sample }) =>
      (bodySchema.required ?? []).map((name) => {
        const { [name]: _missing, ...rest } = sample;
        return { json: rest, refusal: { code: 'validation_failed', paths: [`/${name}`] } };
      }),
    );
  });

  test('an unknown field is refused by its name', async () => {
    const wished = ['unexpected', 'is_admin', 'id', 'status', 'roles', 'permissions', 'created_at', 'password_hash'];
    const inherited = ['toString', 'hasOwnProperty', 'valueOf', '__defineGetter__', 'length', ''];
    await refuseAll(system(), (operation) => [
      ...[...wished, ...inherited]
        .filter((name) => !Object.hasOwn(operation.fields, name))
        .map((name) => withField(operation, name, ['admin'])),
      withField(operation, 'a~b/c', 1, '/a~0b~1c'),
      withField(operation, 'k'.repeat(5_000), 1, `/${'k'.repeat(100)}`),
    ]);
  });

  test('of very many faults twenty are named', async () => {
    const unknown = Object.fromEntries(Array.from({ length: 500 }, (_, index) => [`unknown_${index}`, 0]));
    const paths = Array.from({ length: 20 }, (_, index) => `/unknown_${index}`);
    await refuseAll(system(), ({ sample }) => [
      { json: { ...sample, ...unknown }, refusal: { code: 'validation_failed', paths } },
    ]);
  });

  test('without a fault the same bodies are understood, and the refusals before spent no code of the address', async () => {
    for (const { request, sample } of await listOperations(system())) {
      const refused = await call(system(), { ...request, body: { ...sample, unexpected: 1 } });
      assert.equal(refused.body.code, 'validation_failed');
      if (typeof sample.email === 'string') assert.equal((await sendCode(system(), sample.email, 'login')).status, 202);
      const reply = await call(system(), { ...request, body: sample });
      assert.ok(!inputCodes.includes(reply.body?.code), `${request.method} ${request.path}: ${reply.text}`);
    }
  });
});

function forEachField(
  { fields }: Operation,
  makeCases: (name: string, schema: Schema) => readonly HostileCase[],
): HostileCase[] {
  return Object.entries(fields).flatMap(([name, schema]) => makeCases(name, schema));
}

function withField({ sample }: Operation, name: string, value: unknown, path = `/${name}`): HostileCase {
  return { json: { ...sample, [name]: value }, refusal: { code: 'validation_failed', paths: [path] } };
}

function alternativesOf(schema: Schema): Schema[] {
  return (schema.anyOf ?? schema.oneOf ?? [schema]) as Schema[];
}

function typesOf(schema: Schema): Set<string> {
  const listed = alternativesOf(schema).flatMap(({ type, enum: values = [] }) => type ?? values.map(jsonType));
  return new Set(listed.flat());
}

function jsonType(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return Number.isInteger(value) ? 'integer' : typeof value;
}

function wrongTypes(schema: Schema, good: unknown): unknown[] {
  const allowed = typesOf(schema);
  if (allowed.has('number')) allowed.add('integer');
  const values = ['text', 42, 1.5, true, null, [good ?? 'text'], { 0: good ?? 'text' }];
  return values.filter((value) => !allowed.has(jsonType(value)));
}

function textOf(schema: Schema): Schema | undefined {
  return alternativesOf(schema).find((alternative) => typesOf(alternative).has('string'));
}

function textsOutsideLimits(schema: Schema): string[] {
  const text = textOf(schema);
  if (text === undefined) return [];
  const { minLength = 0, maxLength, enum: values = [] } = text;
  const [known] = values;
  return [
    ...(minLength > 0 ? ['', 'x'.repeat(minLength - 1)] : []),
    ...(maxLength === undefined ? [] : ['x'.repeat(maxLength + 1), '😀'.repeat(maxLength + 1), 'x'.repeat(30_000)]),
    ...(typeof known === 'string' ? [known.toUpperCase(), ` ${known}`, `${known}\n`, 'unknown', ''] : []),
  ];
}
