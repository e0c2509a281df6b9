import type { Static, TSchema } from 'typebox';
import { type ErrorCode, errorCatalogue } from '../errors.ts';
import { Type } from '../json-schema.ts';
import type { BuiltInPermission } from '../permissions.ts';

/** RFC 9457: the document that every error is. */
export const problemSchema = Type.Object(
  {
    type: Type.String({ format: 'uri', description: 'The page that explains this code.' }),
    title: Type.String({ description: 'The same for every occurrence of the code.' }),
    status: Type.Integer({ description: 'The HTTP status.' }),
    code: Type.String({ description: 'The stable name that programs should branch on.' }),
    detail: Type.Optional(Type.String({ description: 'What is particular to this occurrence.' })),
    errors: Type.Optional(
      Type.Array(
        Type.Object(
          {
            path: Type.String({ description: 'JSON Pointer (RFC 6901) into the body, or the parameter.' }),
            message: Type.String({ description: 'What is wrong with it.' }),
          },
          { additionalProperties: false },
        ),
        { maxItems: 20, description: 'The fields that were refused.' },
      ),
    ),
    max_age: Type.Optional(
      Type.Integer({ description: 'RFC 9470: how recent, in seconds, the authentication must be.' }),
    ),
    request_id: Type.String({ description: 'Names this request in the log.' }),
  },
  { $id: 'Problem', additionalProperties: false, description: 'An error, in the form of RFC 9457.' },
);

export type Problem = Static<typeof problemSchema>;

/** Refers to a schema that is registered under its `$id`, so that OpenAPI shows it once by name. */
export function schemaRef<T extends TSchema & { $id?: string }>(schema: T) {
  if (schema.$id === undefined) throw new Error('only a schema with an $id can be referred to');
  return Type.Unsafe<Static<T>>({ $ref: `${schema.$id}#` });
}

type OperationOptions<Body, Params, Query, Response> = {
  operationId: string;
  tag: 'Verification' | 'Authentication' | 'Account' | 'Administration' | 'Service';
  summary: string;
  description: string;
  body?: Body;
  params?: Params;
  querystring?: Query;
  response: Response;
  /** The codes that are particular to this operation; those of every operation are added. */
  errors?: readonly ErrorCode[];
  /** True where a bearer token is needed. */
  secured?: boolean;
  /** The permission that the user of the token needs; the route asks for it with `requirePermission`. */
  permission?: BuiltInPermission;
};

const bodyErrors: readonly ErrorCode[] = [
  'malformed_json',
  'content_too_large',
  'unsupported_media_type',
  'validation_failed',
];
// Whatever an access token opens is limited.
const securedErrors: readonly ErrorCode[] = ['authentication_required', 'invalid_token', 'too_many_requests'];
const commonErrors: readonly ErrorCode[] = ['malformed_request', 'internal_error', 'temporarily_unavailable'];

type RouteSchema<Body, Params, Query, Response> = {
  operationId: string;
  tags: string[];
  summary: string;
  description: string;
  security: { access_token?: string[] }[];
  response: Response;
} & (Body extends TSchema ? { body: Body } : unknown) &
  (Params extends TSchema ? { params: Params } : unknown) &
  (Query extends TSchema ? { querystring: Query } : unknown);

/** Builds a route's schema: what is validated, what is serialised and what OpenAPI shows, in one. */
export function operation<
  Body extends TSchema | undefined = undefined,
  Params extends TSchema | undefined = undefined,
  Query extends TSchema | undefined = undefined,
  Response extends Record<number, unknown> = Record<number, never>,
>(options: OperationOptions<Body, Params, Query, Response>): RouteSchema<Body, Params, Query, Response> {
  const { body, params, querystring, response, permission, secured = permission !== undefined } = options;
  const codes = [
    ...(options.errors ?? []),
    ...(body === undefined ? [] : bodyErrors),
    ...(params === undefined && querystring === undefined ? [] : (['validation_failed'] as const)),
    ...(secured ? securedErrors : []),
    ...(permission === undefined ? [] : (['insufficient_permission'] as const)),
    ...commonErrors,
  ];
  const schema = {
    operationId: options.operationId,
    tags: [options.tag],
    summary: options.summary,
    description:
      permission === undefined ? options.description : `${options.description} Needs the permission \`${permission}\`.`,
    ...(permission === undefined ? {} : { 'x-permission': permission }),
    security: secured ? [{ access_token: [] }] : [],
    ...(body === undefined ? {} : { body }),
    ...(params === undefined ? {} : { params }),
    ...(querystring === undefined ? {} : { querystring }),
    response: { ...problemResponses(codes), ...response },
  };
  // The conditional type says what the spreads above do; the compiler cannot see it.
  return schema as unknown as RouteSchema<Body, Params, Query, Response>;
}

/** An answer without a body. */
export function emptyResponse(description: string) {
  return Type.Null({ description });
}

function problemResponses(codes: readonly ErrorCode[]): Record<number, unknown> {
  const byStatus = Map.groupBy(new Set(codes), (code) => errorCatalogue[code].status);
  return Object.fromEntries([...byStatus].map(([status, group]) => [status, problemResponse(status, group)]));
}

function problemResponse(status: number, codes: readonly ErrorCode[]) {
  return {
    description: codes.map((code) => `\`${code}\`: ${errorCatalogue[code].title}.`).join(' '),
    content: {
      'application/problem+json': {
        schema: schemaRef(problemSchema),
        examples: Object.fromEntries(codes.map((code) => [code, { value: exampleProblem(status, code) }])),
      },
    },
  };
}

function exampleProblem(status: number, code: ErrorCode): Problem {
  return {
    type: `https://auth.example.com/docs/errors#${code}`,
    title: errorCatalogue[code].title,
    status,
    code,
    ...(code === 'validation_failed' ? { errors: [{ path: '/email', message: 'must be an e-mail address' }] } : {}),
    ...(code === 'insufficient_user_authentication' ? { max_age: 300 } : {}),
    request_id: '01978f6e-5c1a-7d2e-9b7a-2f8d1c3e4a5b',
  };
}
