import { Ajv } from 'ajv';
import addFormats from 'ajv-formats';
import type { FastifySchemaCompiler } from 'fastify';

/** Marks a body schema whose body may be left out altogether; the OpenAPI document says so in its own way. */
export const optionalBodyKeyword = 'x-optional';

// Nothing is removed, filled in or converted in a body: what was sent is what is judged.
const bodyAjv = createAjv(false);
// Parameters arrive as text, so numbers among them must be read.
const parameterAjv = createAjv('array');

function createAjv(coerceTypes: boolean | 'array'): Ajv {
  const ajv = new Ajv({ allErrors: true, coerceTypes, removeAdditional: false, useDefaults: true, strict: true });
  ajv.addVocabulary([optionalBodyKeyword]);
  addFormats.default(ajv);
  return ajv;
}

/** Compiles a route's request schemas. All errors are collected, which is safe because bodies are small. */
export const compileValidator: FastifySchemaCompiler<object> = ({ schema, httpPart }) => {
  if (httpPart !== 'body') return parameterAjv.compile(schema);
  const validate = bodyAjv.compile(schema);
  if (!(optionalBodyKeyword in schema)) return validate;
  return (body) => {
    // Fastify hands null where the request has no body.
    if (body === undefined || body === null || validate(body)) return { value: body };
    return { error: validate.errors ?? [] };
  };
};
