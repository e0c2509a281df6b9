import { SerializerSelector } from '@fastify/fast-json-stringify-compiler';

type SerializerFactory = ReturnType<typeof SerializerSelector>;

/**
 * Makes what compiles the schemas of answers into functions. Equal schemas share one function: most refer to the
 * problem document, and to compile each of them anew would be a fifth of the time that a start takes.
 */
export const buildSerializer: SerializerFactory = (externalSchemas, options) => {
  const compile = SerializerSelector()(externalSchemas, options);
  const compiled = new Map<string, ReturnType<typeof compile>>();
  return (route) => {
    const key = JSON.stringify(route.schema);
    const known = compiled.get(key);
    if (known !== undefined) return known;
    const serialize = compile(route);
    compiled.set(key, serialize);
    return serialize;
  };
};
