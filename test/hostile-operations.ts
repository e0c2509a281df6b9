import assert from 'node:assert/strict';
import type { OpenAPIV3_1 } from 'openapi-types';
import type { ErrorCode } from '../src/errors.ts';
import { newEmail, registerUser } from './accounts.ts';
import { assertProblem, type Call, call, takeStock } from './client.ts';
import type { System } from './system.ts';

export type Schema = OpenAPIV3_1.SchemaObject;

/** An operation with a body, as the OpenAPI document describes it. */
export type Operation = {
  /** The request without its body, with a token where one is needed. */
  request: Call;
  bodySchema: Schema;
  bodyRequired: boolean;
  fields: Record<string, Schema>;
  /** A body that the operation understands: the example of the document with an address of its own. */
  sample: Record<string, unknown>;
};

/** How a request must be refused. Without `paths` no field is named. */
export type Refusal = { code: ErrorCode; paths?: string[]; detail?: string };

/** A body to send and how it must be refused. */
export type HostileCase = {
  json?: unknown;
  raw?: string | Buffer;
  headers?: Record<string, string>;
  refusal: Refusal;
};

// Generous for a busy machine, and far below what a backtracking pattern or a quadratic scan would take.
const answeredWithinMs = 250;
const methods = ['POST', 'PUT', 'PATCH', 'DELETE'] as const;

/** Lists every operation of the OpenAPI document that takes a body, so that a new one is tested unasked. */
export async function listOperations(system: System): Promise<Operation[]> {
  const document = system.app.swagger() as OpenAPIV3_1.Document;
  const user = await registerAdministrator(system);
  return Object.entries(document.paths ?? {}).flatMap(([template, item]) =>
    methods.flatMap((method): Operation[] => {
      const operation = item?.[method.toLowerCase() as 'post'];
      const requestBody = operation?.requestBody as OpenAPIV3_1.RequestBodyObject | undefined;
      const content = requestBody?.content['application/json'];
      if (operation === undefined || requestBody === undefined || content === undefined) return [];
      const path = template.replace(/\{[^}]+\}/g, user.id);
      const bodySchema = content.schema as Schema;
      const fields = (bodySchema.properties ?? {}) as Record<string, Schema>;
      const isSecured = operation.security?.some((scheme) => 'access_token' in scheme) ?? false;
      assert.ok(Object.keys(fields).length > 0, `${method} ${template}: a body without properties`);
      assert.ok(content.example, `${method} ${template}: a body without an example`);
      return [
        {
          request: { method, path, ...(isSecured ? { token: user.accessToken } : {}) },
          bodySchema,
          bodyRequired: requestBody.required === true,
          fields,
          sample: { ...content.example, ...('email' in fields ? { email: newEmail() } : {}) },
        },
      ];
    }),
  );
}

/** A user with every role, so that a permission does not hide what is judged after it. */
async function registerAdministrator(system: System) {
  const user = await registerUser(system);
  const { db } = system.deps;
  const roles = await db.selectFrom('roles').select('name').where('name', '!=', 'user').execute();
  const rows = roles.map(({ name }) => ({ user_id: user.id, role_name: name }));
  if (rows.length > 0) await db.insertInto('user_roles').values(rows).execute();
  return user;
}

/** Sends every case to every operation: each is refused as it should be, at once, and nothing is left of it. */
export async function refuseAll(
  system: System,
  makeCases: (operation: Operation) => readonly HostileCase[],
): Promise<void> {
  const operations = await listOperations(system);
  const before = await takeFullStock(system);
  let count = 0;
  for (const operation of operations) {
    for (const hostileCase of makeCases(operation)) {
      count += 1;
      const request = toRequest(operation, hostileCase);
      try {
        await refuse(system, request, hostileCase.refusal);
        assert.deepEqual(await takeFullStock(system), before, 'a refused request must change nothing');
      } catch (error) {
        throw new Error(`${describeRequest(request)}\n${(error as Error).message}`, { cause: error });
      }
    }
  }
  assert.ok(count > 0, 'no operation has such a case');
}

function toRequest({ request }: Operation, { json, raw, headers }: HostileCase): Call {
  const rawBody = json === undefined ? raw : JSON.stringify(json);
  return {
    ...request,
    headers: headers ?? { 'content-type': 'application/json' },
    ...(rawBody === undefined ? {} : { rawBody }),
  };
}

async function refuse(system: System, request: Call, { code, paths, detail }: Refusal): Promise<void> {
  const { reply, tookMs } = await timed(() => call(system, request));
  const errors: { path: string; message: string }[] | undefined = reply.body?.errors;
  assertProblem(reply, code, {
    ...(detail === undefined ? {} : { detail }),
    ...(paths === undefined || errors === undefined ? {} : { errors }),
  });
  if (paths !== undefined) assert.deepEqual([...new Set(errors?.map(({ path }) => path))], paths);
  for (const { message } of errors ?? []) assert.match(message, /^[a-z].{3,}/i);
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

/** The counts of every table, and the users themselves, because an update leaves the counts as they are. */
async function takeFullStock(system: System) {
  const users = await system.deps.db.selectFrom('users').selectAll().orderBy('id').execute();
  return { ...(await takeStock(system)), users };
}

function describeRequest({ method, path, headers, rawBody }: Call): string {
  const body = typeof rawBody === 'string' ? JSON.stringify(rawBody) : `${rawBody?.toString('hex')} (bytes)`;
  return `${method} ${path} ${headers?.['content-type']?.slice(0, 80)}: ${body.slice(0, 300)}`;
}
