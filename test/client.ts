import assert from 'node:assert/strict';
import type { AuditEventType } from '../src/audit/events.ts';
import { type ErrorCode, errorCatalogue } from '../src/errors.ts';
import { listSecrets, withoutTokens } from './canaries/exchange-secrets.ts';
import { recording } from './canaries/recording.ts';
import { checkContract } from './contract.ts';
import { countRows, digestRows, type System } from './system.ts';

type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE' | 'HEAD' | 'OPTIONS';

export type Call = {
  method: Method;
  path: string;
  /** Sent as JSON. */
  body?: unknown;
  /** Sent as it is, with the content type of `headers`. */
  rawBody?: string | Buffer;
  token?: string;
  headers?: Record<string, string>;
  remoteAddress?: string;
};

// biome-ignore lint/suspicious/noExplicitAny: a test reads whatever the reply holds and asserts on it.
export type Reply = { status: number; headers: Record<string, string | undefined>; body: any; text: string };

/** Makes a request and checks the exchange against the OpenAPI document. */
export async function call(
  system: System,
  { method, path, body, rawBody, token, headers, remoteAddress }: Call,
): Promise<Reply> {
  const response = await system.app.inject({
    method,
    url: path,
    ...(remoteAddress === undefined ? {} : { remoteAddress }),
    headers: {
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...headers,
    },
    ...(body === undefined ? {} : { payload: JSON.stringify(body) }),
    ...(rawBody === undefined ? {} : { payload: rawBody }),
  });
  const contentType = response.headers['content-type'];
  if (method !== 'HEAD' && method !== 'OPTIONS') {
    const { statusCode: status, body: responseBody } = response;
    checkContract(system, { method, path, requestBody: body, status, contentType, responseBody });
  }
  const isJson = /json/.test(contentType ?? '');
  const reply: Reply = {
    status: response.statusCode,
    headers: response.headers as Reply['headers'],
    body: isJson && response.body !== '' ? JSON.parse(response.body) : undefined,
    text: response.body,
  };
  recordExchange({ method, path, body, token }, reply);
  return reply;
}

/** Leaves what is secret in an exchange, and the rest of the reply, to the search for canaries. */
function recordExchange(
  { method, path, body, token }: Omit<Call, 'token'> & { token: string | undefined },
  { status, headers, body: replied, text }: Reply,
): void {
  if (recording === undefined) return;
  const isAccepted = status < 300;
  const sent = listSecrets(body).filter(([kind]) => kind !== 'code' || isAccepted);
  const got = isAccepted ? listSecrets(replied) : [];
  const used = token === undefined ? [] : listSecrets({ access_token: token });
  for (const [kind, secret] of [...sent, ...got, ...used]) recording.secret(kind, secret);
  // The mailbox is there to show codes.
  if (!path.startsWith('/dev/'))
    recording.text('replies', withoutTokens(`${method} ${JSON.stringify(headers)} ${text}`));
}

type ExpectedProblem = {
  errors?: { path: string; message: string }[];
  detail?: string;
  max_age?: number;
};

/** Asserts that a reply is exactly the problem document of this code. */
export function assertProblem(reply: Reply, code: ErrorCode, expected: ExpectedProblem = {}): void {
  const { status, title } = errorCatalogue[code];
  const { request_id: requestId, ...problem } = reply.body ?? {};
  const type = `http://latchkey.test/docs/errors#${code}`;
  assert.deepEqual(problem, { type, title, status, code, ...expected });
  assert.match(requestId, /^[0-9a-f-]{36}$/);
  assert.equal(reply.status, status);
  assert.equal(reply.headers['content-type'], 'application/problem+json');
  if (status === 401) assert.match(reply.headers['www-authenticate'] ?? '', /^Bearer /);
  if (status === 429 || status === 503) assert.match(reply.headers['retry-after'] ?? '', /^[1-9]\d*$/);
}

/** Makes a request that must be refused with this code, and shows that no row and no mail came of it. */
export async function assertRefused(
  system: System,
  request: Call,
  code: ErrorCode,
  expected: ExpectedProblem = {},
): Promise<Reply> {
  const before = await takeStock(system);
  const digest = await digestRows(system);
  const reply = await call(system, request);
  assertProblem(reply, code, expected);
  assert.deepEqual(await takeStock(system), before, 'a refused request must change nothing');
  assert.equal(await digestRows(system), digest, 'a refused request must leave every row as it was');
  return reply;
}

/**
 * Makes a request that must be refused with this code and recorded, and shows that nothing came of it but one event of
 * this type.
 */
export async function assertRefusedAndRecorded(
  system: System,
  request: Call,
  code: ErrorCode,
  type: AuditEventType,
): Promise<Reply> {
  const ofType = () => system.deps.db.selectFrom('audit_events').selectAll().where('type', '=', type).execute();
  const before = await takeStock(system);
  const known = new Set((await ofType()).map(({ id }) => id));
  const digest = await digestRows(system);
  const reply = await call(system, request);
  assertProblem(reply, code);
  const [event, ...more] = (await ofType()).filter(({ id }) => !known.has(id));
  assert.deepEqual([event?.request_id, more], [reply.body.request_id, []], `${type} must be recorded once`);
  assert.deepEqual(await takeStock(system), { ...before, audit_events: (before.audit_events ?? 0) + 1 });
  assert.equal(await digestRows(system), digest, 'but for the event, a refused request must leave every row as it was');
  return reply;
}

/** What a refusal may not change: the rows of every table and the mails sent. */
export type Stock = Awaited<ReturnType<typeof countRows>> & { mails: number };

/** Counts rows and mails. */
export async function takeStock(system: System): Promise<Stock> {
  await system.deps.outbox.deliverDue();
  return { ...(await countRows(system)), mails: system.deps.mailbox?.sent() ?? 0 };
}
