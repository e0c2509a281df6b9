import type { Type as TypeBox } from 'typebox';

type Options = Record<string, unknown>;
type Schema = Record<string, unknown> & { [optional]?: true };

// Not enumerable, so that no schema shows it.
const optional = Symbol('optional');

function makeObject(properties: Record<string, Schema>, options: Options = {}): Schema {
  const required = Object.keys(properties).filter((name) => properties[name]?.[optional] === undefined);
  return { type: 'object', ...(required.length > 0 && { required }), properties, ...options };
}

const builders = {
  Array: (items: Schema, options?: Options): Schema => ({ type: 'array', items, ...options }),
  Boolean: (options?: Options): Schema => ({ type: 'boolean', ...options }),
  Enum: (values: readonly string[], options?: Options): Schema => ({ enum: values, ...options }),
  Integer: (options?: Options): Schema => ({ type: 'integer', ...options }),
  Literal: (value: string, options?: Options): Schema => ({ type: 'string', const: value, ...options }),
  Null: (options?: Options): Schema => ({ type: 'null', ...options }),
  Object: makeObject,
  Optional: (schema: Schema): Schema => Object.defineProperty({ ...schema }, optional, { value: true }),
  Record: (_key: Schema, value: Schema, options?: Options): Schema => {
    return { type: 'object', patternProperties: { '^.*$': value }, ...options };
  },
  String: (options?: Options): Schema => ({ type: 'string', ...options }),
  Union: (anyOf: readonly Schema[], options?: Options): Schema => ({ anyOf, ...options }),
  Unsafe: (schema: Schema): Schema => ({ ...schema }),
};

/**
 * Makes JSON Schema (draft 2020-12) that TypeScript reads as a type. The types are TypeBox's, and what is made is what
 * TypeBox makes; its own functions are four hundred modules and a tenth of a start, of which these few are used.
 */
export const Type = builders as unknown as Pick<typeof TypeBox, keyof typeof builders>;
