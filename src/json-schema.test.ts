import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Type as TypeBox } from 'typebox';
import { Type } from './json-schema.ts';

const described = { description: 'What it is.' };

/** Makes a schema of every kind, with options and without. */
function makeSamples(type: typeof Type) {
  const named = type.Object({ name: type.String(), age: type.Optional(type.Integer({ minimum: 0 })) });
  return {
    Array: [type.Array(type.String()), type.Array(named, { maxItems: 3, ...described })],
    Boolean: [type.Boolean(), type.Boolean(described)],
    Enum: [type.Enum(['one', 'other']), type.Enum(['one'], described)],
    Integer: [type.Integer(), type.Integer({ minimum: 1, maximum: 5, default: 2 })],
    Literal: [type.Literal('up'), type.Literal('up', described)],
    Null: [type.Null(), type.Null(described)],
    Object: [
      type.Object({}),
      type.Object({ all: type.Optional(type.Null()) }, { $id: 'Maybe', additionalProperties: false }),
      type.Object({ outer: type.Optional(named), others: type.Array(named) }, described),
    ],
    Optional: [type.Optional(type.String(described)), type.Optional(type.Unsafe<string>({ $ref: 'Named#' }))],
    Record: [
      type.Record(type.String(), type.Boolean()),
      type.Record(type.String(), named, { maxProperties: 2, ...described }),
    ],
    String: [type.String(), type.String({ format: 'uri', maxLength: 9, pattern: '^h' })],
    Union: [type.Union([type.Literal('a'), type.Null()]), type.Union([type.Integer(), named], described)],
    Unsafe: [type.Unsafe<string | null>({ type: ['string', 'null'], ...described })],
  } satisfies Record<keyof typeof Type, unknown[]>;
}

describe('a schema', () => {
  const expected = makeSamples(TypeBox);
  for (const [kind, schemas] of Object.entries(makeSamples(Type))) {
    test(`of the kind ${kind} is what TypeBox makes, to the order of its members`, () => {
      const texts = expected[kind as keyof typeof expected].map((schema) => JSON.stringify(schema));
      assert.deepEqual(
        schemas.map((schema) => JSON.stringify(schema)),
        texts,
      );
    });
  }

  test('that is given as optional stays what it was elsewhere', () => {
    const name = Type.String();
    const { required } = Type.Object({ first: name, second: Type.Optional(name) });
    assert.deepEqual(required, ['first']);
  });
});
