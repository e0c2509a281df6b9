import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FieldError } from '../src/errors.ts';
import { sendCode } from './accounts.ts';
import { call } from './client.ts';
import { type HostileCase, listOperations, type Operation, refuseAll, type Schema } from './hostile-operations.ts';
import { describeOnBackends } from './system.ts';

const inputCodes = ['malformed_json', 'validation_failed', 'unsupported_media_type', 'content_too_large'];
const knownOperations = [
  'POST /auth/send-code',
  'POST /auth/verify-code',
  'POST /auth/register',
  'POST /auth/login',
  'POST /auth/login/code',
  'POST /auth/refresh',
  'POST /auth/logout',
  'POST /auth/reauthenticate',
  'POST /auth/reset-password',
  'PATCH /users/me',
  'PUT /users/me/password',
  'POST /users/me/email',
  'PUT /users/me/email',
];

describeOnBackends('hostile input, field by field', {}, (system) => {
  test('every body is a closed object in which every text has a limit', async () => {
    const operations = await listOperations(system());
    const labels = new Set(operations.map(({ label }) => label));
    for (const label of knownOperations) assert.ok(labels.has(label), `the OpenAPI document has lost ${label}`);
    for (const { label, bodySchema, fields } of operations) {
      assert.equal(bodySchema.type, 'object', label);
      assert.equal(bodySchema.additionalProperties, false, label);
      for (const [name, schema] of Object.entries(fields)) {
        const text = textOf(schema);
        const isBounded = text === undefined || text.enum !== undefined || text.maxLength !== undefined;
        assert.ok(isBounded, `${label}: ${name} has no maxLength`);
      }
    }
  });

  test('a value of the wrong type is one fault, named by its field, also where null would be accepted', async () => {
    await refuseAll(system(), (operation) =>
      forEachField(operation, (name, schema) =>
        wrongTypes(schema, operation.sample[name]).map((value) =>
          withField(operation, name, value, [{ path: `/${name}`, message: typeMessage(schema) }]),
        ),
      ),
    );
  });

  test('null is accepted by exactly the fields that say so', async () => {
    const nullable = (await listOperations(system())).flatMap(({ label, fields }) =>
      Object.keys(fields)
        .filter((name) => typesOf(fields[name] ?? {}).has('null'))
        .map((name) => `${label} ${name}`),
    );
    assert.deepEqual(
      nullable.filter((field) => knownOperations.some((label) => field.startsWith(`${label} `))),
      ['POST /auth/register name', 'POST /auth/register locale', 'PATCH /users/me name', 'PATCH /users/me locale'],
    );
  });

  test('a text with NUL or half a surrogate pair is refused by the name of its field', async () => {
    const unstorable = ['\0', 'a\0b', '\ud800', '\udc00', 'a\ud83d', '\udc00\ud800', '\ud83d\ud83d\ude00'];
    await refuseAll(system(), (operation) =>
      forEachField(operation, (name) =>
        unstorable.map((value) => withField(operation, name, value, [unstorableAt(`/${name}`)])),
      ),
    );
  });

  test('a text of one character too many, too few, or outside its list is refused by the name of its field', async () => {
    await refuseAll(system(), (operation) =>
      forEachField(operation, (name, schema) =>
        textsOutsideLimits(schema).map((value) => {
          const paths = faultsOf(schema, value).map(() => `/${name}`);
          return { json: { ...operation.extensible, [name]: value }, refusal: { code: 'validation_failed', paths } };
        }),
      ),
    );
  });

  test('an open object is refused when it is too large or holds what cannot be stored, however deep', async () => {
    const manyMembers = Object.fromEntries(Array.from({ length: 2_000 }, (_, index) => [`k${index}`, index]));
    await refuseAll(system(), (operation) =>
      forEachField(operation, (name, schema) => {
        if (schema.type !== 'object') return [];
        const tooLarge = (value: unknown): HostileCase => {
          return {
            json: { ...operation.sample, [name]: value },
            refusal: { code: 'validation_failed', paths: [`/${name}`] },
          };
        };
        const unstorable = (value: unknown, path: string) => withField(operation, name, value, [unstorableAt(path)]);
        return [
          unstorable({ a: [{ b: '\0' }] }, `/${name}/a/0/b`),
          unstorable({ 'a/b': { '~': '\ud800' } }, `/${name}/a~1b/~0`),
          unstorable({ 'a\0': 1 }, `/${name}/a\0`),
          unstorable({ '\udc00': 1 }, `/${name}/\ufffd`),
          tooLarge({ a: 'x'.repeat(30_000) }),
          tooLarge(manyMembers),
        ];
      }),
    );
  });

  test('a required field that is missing is named', async () => {
    await refuseAll(system(), ({ bodySchema, sample }) =>
      (bodySchema.required ?? []).map((name) => {
        const { [name]: _missing, ...rest } = sample;
        const errors = [{ path: `/${name}`, message: 'is required' }];
        return { json: rest, refusal: { code: 'validation_failed', errors } };
      }),
    );
  });

  test('an unknown field is refused by its name', async () => {
    const wished = ['unexpected', 'is_admin', 'id', 'status', 'roles', 'permissions', 'created_at', 'password_hash'];
    const inherited = ['toString', 'hasOwnProperty', 'valueOf', '__defineGetter__', 'length', ''];
    const unknownAt = (path: string) => [{ path, message: 'is not a known field' }];
    await refuseAll(system(), (operation) => [
      ...[...wished, ...inherited]
        .filter((name) => !Object.hasOwn(operation.fields, name))
        .map((name) => withField(operation, name, ['admin'], unknownAt(`/${name}`))),
      withField(operation, 'a~b/c', 1, unknownAt('/a~0b~1c')),
      withField(operation, 'k'.repeat(5_000), 1, unknownAt(`/${'k'.repeat(100)}`)),
    ]);
  });

  test('of very many faults twenty are named', async () => {
    const unknown = Object.fromEntries(Array.from({ length: 500 }, (_, index) => [`unknown_${index}`, 0]));
    const unknownPaths = Object.keys(unknown).map((name) => `/${name}`);
    await refuseAll(system(), ({ sample, bodySchema }) => {
      const ofTheWhole = bodySchema.maxProperties === undefined ? [] : [''];
      const paths = [...ofTheWhole, ...unknownPaths].slice(0, 20);
      return [{ json: { ...sample, ...unknown }, refusal: { code: 'validation_failed', paths } }];
    });
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

function withField({ extensible }: Operation, name: string, value: unknown, errors: FieldError[]): HostileCase {
  return { json: { ...extensible, [name]: value }, refusal: { code: 'validation_failed', errors } };
}

function unstorableAt(path: string): FieldError {
  return { path, message: 'must not hold NUL or unpaired surrogates' };
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

function typeMessage({ type, enum: values }: Schema): string {
  return values === undefined ? `must be ${[type].flat().join(',')}` : `must be one of ${values.join(', ')}`;
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

/** The rules of a schema that a text breaks; each is a fault of its own. */
function faultsOf(schema: Schema, value: string): string[] {
  const { minLength = 0, maxLength = Number.POSITIVE_INFINITY, pattern, enum: values } = textOf(schema) ?? {};
  const length = [...value].length;
  return [
    ...(length > maxLength ? ['maxLength'] : []),
    ...(length < minLength ? ['minLength'] : []),
    ...(pattern === undefined || new RegExp(pattern, 'u').test(value) ? [] : ['pattern']),
    ...(values === undefined || values.includes(value) ? [] : ['enum']),
  ];
}
