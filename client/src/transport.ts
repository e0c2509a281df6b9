import type { Problem } from './api-types.ts';
import type { Deadline } from './deadline.ts';
import { LatchkeyError } from './latchkey-error.ts';
import type { AnyInput, OperationName, ResultOf } from './operation.ts';

/** Sends one request and reads its answer; never sends it again. */
export type Transport = <Name extends OperationName>(request: TransportRequest<Name>) => Promise<ResultOf<Name>>;

type TransportRequest<Name extends OperationName> = {
  operation: Name;
  input: AnyInput;
  accessToken?: string | undefined;
  deadline: Deadline;
};

/** Makes the transport to a service. */
export function createTransport(baseUrl: string, fetchFunction: typeof fetch): Transport {
  const base = readBaseUrl(baseUrl);
  return async ({ operation, input, accessToken, deadline }) => {
    if (deadline.signal.aborted) throw deadline.reason();
    const [method = '', template = ''] = operation.split(' ');
    const url = base + fillPath(template, input.path) + renderQuery(input.query);
    const { answer, text } = await exchange(deadline, () =>
      fetchFunction(url, {
        method,
        headers: {
          accept: 'application/json',
          ...(input.body === undefined ? {} : { 'content-type': 'application/json' }),
          ...(accessToken === undefined ? {} : { authorization: `Bearer ${accessToken}` }),
        },
        ...(input.body === undefined ? {} : { body: JSON.stringify(input.body) }),
        signal: deadline.signal,
        // Bearer tokens only: no cookie goes along, and a redirect would carry the token to wherever it points.
        credentials: 'omit',
        redirect: 'error',
        cache: 'no-store',
        referrerPolicy: 'no-referrer',
      }),
    );
    return readAnswer(answer, text);
  };
}

async function exchange(
  deadline: Deadline,
  send: () => Promise<Response>,
): Promise<{ answer: Response; text: string }> {
  try {
    const answer = await send();
    return { answer, text: await answer.text() };
  } catch (error) {
    if (deadline.signal.aborted) throw deadline.reason();
    throw new LatchkeyError('network_error', 'the service could not be reached, or its answer was lost', {
      cause: error,
    });
  }
}

function readAnswer<Result>(answer: Response, text: string): Result {
  const { status } = answer;
  if (status === 204) return undefined as Result;
  const body = parseObject(text);
  if (answer.ok && body !== undefined) return body as Result;
  const retryAfterSeconds = readRetryAfter(answer.headers.get('retry-after'));
  if (isProblem(body)) {
    const { code, title, detail } = body;
    const message = `${code}: ${detail ?? title}`;
    throw new LatchkeyError(code, message, { status, problem: body, retryAfterSeconds });
  }
  // A proxy, a captive portal, or another service: nothing that it says about a session is believed.
  const message = `status ${status} came with a body that is not of Latchkey`;
  throw new LatchkeyError('unexpected_response', message, { status, retryAfterSeconds });
}

function parseObject(text: string): object | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

function isProblem(body: object | undefined): body is Problem {
  const { code, title, status } = (body ?? {}) as Partial<Problem>;
  return typeof code === 'string' && typeof title === 'string' && typeof status === 'number';
}

/** The service sends seconds; the other form, a date, would need a clock that agrees with its own. */
function readRetryAfter(header: string | null): number | undefined {
  return header !== null && /^\d{1,9}$/.test(header) ? Number(header) : undefined;
}

/** Any part of the base that is not an origin and a path would end up in places that it was not meant for. */
function readBaseUrl(baseUrl: string): string {
  const { protocol, username, password, search, hash, origin, pathname } = new URL(baseUrl);
  const isPlain = username === '' && password === '' && search === '' && hash === '';
  if (!/^https?:$/.test(protocol) || !isPlain)
    throw new TypeError('the base URL must be http(s), without user or query');
  return origin + pathname.replace(/\/+$/, '');
}

function fillPath(template: string, path: AnyInput['path'] = {}): string {
  return template.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = path[name];
    // A URL drops such segments, encoded or not, and the request would be another one.
    if (typeof value !== 'string' || /^\.{0,2}$/.test(value)) throw new TypeError(`the path needs ${name}`);
    return encodeURIComponent(value);
  });
}

function renderQuery(query: AnyInput['query'] = {}): string {
  const present = Object.entries(query).filter(([, value]) => value !== undefined);
  const text = new URLSearchParams(present.map(([name, value]) => [name, String(value)])).toString();
  return text === '' ? '' : `?${text}`;
}
