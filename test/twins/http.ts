import { Agent, type IncomingMessage, request } from 'node:http';
import type { ApiInstance } from '../../src/http/api.ts';

type Injection = {
  method: string;
  url: string;
  headers: Record<string, string>;
  payload?: string | Buffer;
  remoteAddress?: string;
};

/** What tests use of an application, carried out over HTTP. */
export type RemoteApp = { app: ApiInstance; answered(): number; close(): void };

/** Gives what listens at an origin, and has this OpenAPI document, the shape of an application in this process. */
export function connectApp(origin: string, document: unknown): RemoteApp {
  const agent = new Agent({ keepAlive: true });
  let answered = 0;

  async function inject({ method, url, headers, payload = '', remoteAddress }: Injection) {
    // Without a length Node would send a body in chunks even where there is none.
    const length = { 'content-length': String(Buffer.byteLength(payload)) };
    // As a proxy would say it, to an instance that trusts it.
    const forwarded = remoteAddress === undefined ? {} : { 'x-forwarded-for': remoteAddress };
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const sent = request(origin + url, { agent, method, headers: { ...headers, ...length, ...forwarded } }, resolve);
    sent.once('error', reject).end(payload);
    const response = await promise;
    answered += 1;
    let body = '';
    for await (const chunk of response.setEncoding('utf8')) body += chunk;
    return { statusCode: response.statusCode, headers: response.headers, body };
  }

  const app = { inject, swagger: () => document } as unknown as ApiInstance;
  return { app, answered: () => answered, close: () => agent.destroy() };
}
