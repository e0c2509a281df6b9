import { Ajv } from 'ajv';
import addFormats from 'ajv-formats';
import type { FastifySchemaCompiler } from 'fastify';

/** Marks a body schema whose body may be left out altogether; the OpenAPI document says so in its own way. */
export const optionalBodyKeyword = 'x-optional';

// Nothing is removed or converted: what was sent is what is judged. Numbers among the parameters, which arrive
// as text, are read below: Ajv's own conversion takes "1e999" for a number.
const ajv = createAjv();
const decimalPattern = /^-?\d{1,15}$/;

function createAjv(): Ajv {
  const ajv = new Ajv({
    allErrors: true,
    coerceTypes: false,
    removeAdditional: false,
    useDefaults: true,
    strict: true,
  });
  ajv.addVocabulary([optionalBodyKeyword]);
  addFormats.default(ajv);
  return ajv;
}

/** Compiles a route's request schemas. All errors are collected, which is safe because bodies are small. */
export const compileValidator: FastifySchemaCompiler<object> = ({ schema, httpPart }) => {
  const validate = ajv.compile(schema);
  if (httpPart !== 'body') {
    return (parameters) => {
      const value = readIntegers(schema, parameters);
      return validate(value) ? { value } : { error: validate.errors ?? [] };
    };
  }
  if (!(optionalBodyKeyword in schema)) return validate;
  return (body) => {
    // Fastify hands null where the request has no body.
    if (body === undefined || body === null || validate(body)) return { value: body };
    return { error: validate.errors ?? [] };
  };
};

type ParameterSchema = { properties?: Record<string, { type?: string }> };

/** Reads decimal digits where the schema wants an integer; everything else stays text and is refused as such. */
function readIntegers(schema: ParameterSchema, parameters: Record<string, unknown>): Record<string, unknown> {
  const entries = Object.entries(parameters).map(([name, value]) => {
    const wantsInteger = schema.properties?.[name]?.type === 'integer';
    const isDecimal = typeof value === 'string' && decimalPattern.test(value);
    return [name, wantsInteger && isDecimal ? Number(value) : value] as const;
  });
  return Object.fromEntries(entries);
}
