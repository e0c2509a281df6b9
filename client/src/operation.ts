import type { Operations } from './api-types.ts';

/** The name of an operation: its method and its path as the document has it. */
export type OperationName = keyof Operations;

/** What an operation answers. */
export type ResultOf<Name extends OperationName> = Operations[Name]['result'];

/** The codes with which the service can refuse an operation. */
export type ErrorCodeOf<Name extends OperationName> = Operations[Name]['errors'];

/** The JSON body of an operation. */
export type BodyOf<Name extends OperationName> = Operations[Name]['body'];

/** The query parameters of an operation. */
export type QueryOf<Name extends OperationName> = Operations[Name]['query'];

/** What is needed of a part: nothing where the operation has none, and it may be left out where nothing in it must be. */
type Part<Key extends string, Value> = [Value] extends [undefined]
  ? { [K in Key]?: undefined }
  : undefined extends Value
    ? { [K in Key]?: Value }
    : Record<never, never> extends Value
      ? { [K in Key]?: Value | undefined }
      : { [K in Key]: Value };

/** What an operation is given: its path parameters, its query and its body. */
export type InputOf<Name extends OperationName> = Part<'path', Operations[Name]['path']> &
  Part<'query', Operations[Name]['query']> &
  Part<'body', Operations[Name]['body']>;

/** The input as it is sent, whichever operation it belongs to. */
export type AnyInput = {
  path?: Readonly<Record<string, string>> | undefined;
  query?: Readonly<Record<string, string | number | undefined>> | undefined;
  body?: unknown;
};
