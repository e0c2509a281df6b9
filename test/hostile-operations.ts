import assert from 'node:assert/strict';
import type { OpenAPIV3_1 } from 'openapi-types';
import type { ErrorCode, FieldError } from '../src/errors.ts';
import { newEmail, registerUser, type TestUser } from './accounts.ts';
import { assertProblem, type Call, call, takeStock } from './client.ts';
import { digestRows, type System } from './system.ts';

export type Schema = OpenAPIV3_1.SchemaObject;

/** An operation with a body, as the OpenAPI document describes it. */
export type Operation = {
  label: string;
  /** The request without its body, with a token where one is needed. */
  request: Call;
  bodySchema: Schema;
  bodyRequired: boolean;
  fields: Record<string, Schema>;
  /** A body that the operation understands: the example of the document with an address of its own. */
  sample: Record<string, unknown>;
  /** The sample, or nothing where one member more would be one too many: what a fault can be added to alone. */
  extensible: Record<string, unknown>;
};

/** A parameter in the path or in the query of an operation. */
export type Parameter = {
  label: string;
  name: string;
  in: 'path' | 'query';
  schema: Schema;
  /** The request with this text in the path, or with this query, and with the example of a body where one is taken. */
  requestWith(text: string): Call;
};

/** How a request must be refused. Without `errors` and `paths` no place is named; `paths` leaves the messages open. */
export type Refusal = { code: ErrorCode; errors?: FieldError[]; paths?: string[]; detail?: string };

/** A body to send and how it must be refused. */
export type HostileCase = {
  json?: unknown;
  raw?: string | Buffer;
  headers?: Record<string, string>;
  refusal: Refusal;
};

type Documented = {
  label: string;
  operation: OpenAPIV3_1.OperationObject;
  requestAt(pathParameters: Record<string, string>): Call;
};

// Generous for a busy machine, and far below what a backtracking pattern or a quadratic scan would take.
const answeredWithinMs = 250;
const casesBetweenLooks = 20;
const methods = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'] as const;

/** Lists every operation of the OpenAPI document that takes a body, so that a new one is tested unasked. */
export async function listOperations(system: System): Promise<Operation[]> {
  return (await listDocumented(system)).flatMap(({ label, operation, requestAt }): Operation[] => {
    const requestBody = operation.requestBody as OpenAPIV3_1.RequestBodyObject | undefined;
    const content = requestBody?.content['application/json'];
    if (requestBody === undefined || content === undefined) return [];
    const bodySchema = content.schema as Schema;
    const fields = (bodySchema.properties ?? {}) as Record<string, Schema>;
    assert.ok(Object.keys(fields).length > 0, `${label}: a body without properties`);
    assert.ok(content.example, `${label}: a body without an example`);
    const sample = { ...content.example, ...('email' in fields ? { email: newEmail() } : {}) };
    const isFull = Object.keys(sample).length >= (bodySchema.maxProperties ?? Number.POSITIVE_INFINITY);
    const bodyRequired = requestBody.required === true;
    return [
      { label, request: requestAt({}), bodySchema, bodyRequired, fields, sample, extensible: isFull ? {} : sample },
    ];
  });
}

/** Lists every parameter of every operation of the OpenAPI document. */
export async function listParameters(system: System): Promise<Parameter[]> {
  return (await listDocumented(system)).flatMap(({ label, operation, requestAt }) =>
    ((operation.parameters ?? []) as OpenAPIV3_1.ParameterObject[]).map((parameter): Parameter => {
      const { name } = parameter;
      assert.ok(parameter.in === 'path' || parameter.in === 'query', `${label}: ${name} is in ${parameter.in}`);
      const inPath = parameter.in === 'path';
      const requestBody = operation.requestBody as OpenAPIV3_1.RequestBodyObject | undefined;
      const body: unknown = requestBody?.content['application/json']?.example;
      return {
        label: `${label}, ${name}`,
        name,
        in: inPath ? 'path' : 'query',
        schema: parameter.schema as Schema,
        requestWith(text) {
          const request = { ...requestAt(inPath ? { [name]: text } : {}), ...(body === undefined ? {} : { body }) };
          return inPath ? request : { ...request, path: `${request.path}?${text}` };
        },
      };
    }),
  );
}

async function listDocumented(system: System): Promise<Documented[]> {
  const user = await registerAdministrator(system);
  // Whom the administration is about: what is understood must not end the session of who asks.
  const subject = await registerUser(system);
  const document = system.app.swagger() as OpenAPIV3_1.Document;
  return Object.entries(document.paths ?? {}).flatMap(([template, item]) =>
    methods.flatMap((method): Documented[] => {
      const operation = item?.[method.toLowerCase() as 'post'];
      if (operation === undefined) return [];
      const isSecured = operation.security?.some((scheme) => 'access_token' in scheme) ?? false;
      return [
        {
          label: `${method} ${template}`,
          operation,
          requestAt: (pathParameters) => ({
            method,
            path: template.replace(/\{([^}]+)\}/g, (_, name) => encodeURIComponent(pathParameters[name] ?? subject.id)),
            ...(isSecured ? { token: user.accessToken } : {}),
          }),
        },
      ];
    }),
  );
}

/** A user with every role, so that a permission does not hide what is judged after it. */
async function registerAdministrator(system: System): Promise<TestUser> {
  const user = await registerUser(system);
  const { db } = system.deps;
  const roles = await db.selectFrom('roles').select('name').where('name', '!=', 'user').execute();
  const rows = roles.map(({ name }) => ({ user_id: user.id, role_name: name }));
  if (rows.length > 0) await db.insertInto('user_roles').values(rows).execute();
  return user;
}

/** Sends every case to every operation with a body: each is refused as it should be, and nothing is left of it. */
export async function refuseAll(
  system: System,
  makeCases: (operation: Operation) => readonly HostileCase[],
): Promise<void> {
  const operations = await listOperations(system);
  await refuseRequests(
    system,
    operations.flatMap((operation) =>
      makeCases(operation).map((hostileCase) => ({
        request: toRequest(operation, hostileCase),
        refusal: hostileCase.refusal,
      })),
    ),
  );
}

/** Sends requests that must be refused: each is, at once, and nothing is left of it. */
export async function refuseRequests(
  system: System,
  cases: readonly { request: Call; refusal: Refusal }[],
): Promise<void> {
  assert.ok(cases.length > 0, 'no operation has such a case');
  const before = await takeFullStock(system);
  // Not after each: to look at every row of every table takes longer than what it looks for.
  for (let first = 0; first < cases.length; first += casesBetweenLooks) {
    const some = cases.slice(first, first + casesBetweenLooks);
    for (const { request, refusal } of some) {
      await naming([request], () => refuse(system, request, refusal));
    }
    await naming(
      some.map(({ request }) => request),
      async () => assert.deepEqual(await takeFullStock(system), before, 'a refused request must change nothing'),
    );
  }
}

/** Says of what fails which requests it was about. */
async function naming(requests: readonly Call[], act: () => Promise<void>): Promise<void> {
  try {
    await act();
  } catch (error) {
    throw new Error(`${requests.map(describeRequest).join('\n')}\n${(error as Error).message}`, { cause: error });
  }
}

/** The JSON text of an object with one more member, as text, in front of the others. */
export function withMember(sample: Record<string, unknown>, member: string): string {
  const text = JSON.stringify(sample);
  return text === '{}' ? `{${member}}` : text.replace('{', () => `{${member},`);
}

function toRequest({ request }: Operation, { json, raw, headers }: HostileCase): Call {
  const rawBody = json === undefined ? raw : JSON.stringify(json);
  return {
    ...request,
    headers: headers ?? { 'content-type': 'application/json' },
    ...(rawBody === undefined ? {} : { rawBody }),
  };
}

async function refuse(system: System, request: Call, { code, errors, paths, detail }: Refusal): Promise<void> {
  const { reply, tookMs } = await timed(() => call(system, request));
  const named: FieldError[] | undefined = reply.body?.errors;
  const expectedErrors = errors ?? (paths === undefined ? undefined : named);
  assertProblem(reply, code, {
    ...(detail === undefined ? {} : { detail }),
    ...(expectedErrors === undefined ? {} : { errors: expectedErrors }),
  });
  if (paths !== undefined) {
    const namedPaths = named?.map(({ path }) => path);
    assert.deepEqual(namedPaths, paths);
  }
  for (const { message } of named ?? []) assert.match(message, /^[a-z].{3,}/i);
  if (tookMs <= answeredWithinMs) return;
  // The machine may have been busy with something else; the request itself is slow only if it always is.
  const again = await timed(() => call(system, request));
  assert.ok(again.tookMs <= answeredWithinMs, `answered after ${tookMs} ms and again after ${again.tookMs} ms`);
}

async function timed<T>(act: () => Promise<T>): Promise<{ reply: T; tookMs: number }> {
  const startedAtMs = performance.now();
  const reply = await act();
  return { reply, tookMs: Math.round(performance.now() - startedAtMs) };
}

/** The counts of every table, and what its rows hold, because an update leaves the counts as they are. */
async function takeFullStock(system: System) {
  return { ...(await takeStock(system)), digest: await digestRows(system) };
}

function describeRequest({ method, path, headers, rawBody }: Call): string {
  const body = typeof rawBody === 'string' ? JSON.stringify(rawBody) : `${rawBody?.toString('hex')} (bytes)`;
  return `${method} ${path.slice(0, 200)} ${headers?.['content-type']?.slice(0, 80)}: ${body.slice(0, 300)}`;
}
