import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { type ClientOptions, createClient, type LatchkeyClient } from '../../client/src/index.ts';
import type { System } from '../system.ts';

/** What is done with a request: it is served, its answer is lost on the way, or another answer stands in for it. */
type Treatment = 'serve' | 'lose_answer' | { status: number; headers?: Record<string, string>; body: string };

/** The way to a real service, on which a test can count and disturb requests. */
export type Doorway = {
  origin: string;
  /** Every request that came, as method and path, preflights left out. */
  seen: string[];
  /** Decides about every request from now on. */
  treat(decide: (request: string) => Treatment | Promise<Treatment>): void;
  close(): Promise<void>;
};

// They belong to one connection, and there are two.
const hopByHop = ['connection', 'keep-alive', 'transfer-encoding', 'content-length', 'host'];

/** Opens a way to a service that listens at the origin. */
export async function openDoorway(target: string): Promise<Doorway> {
  const seen: string[] = [];
  let decide: (request: string) => Treatment | Promise<Treatment> = () => 'serve';

  async function pass(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const name = `${incoming.method} ${incoming.url}`;
    const body = await buffer(incoming);
    const isPreflight = incoming.method === 'OPTIONS';
    if (!isPreflight) seen.push(name);
    const treatment = isPreflight ? 'serve' : await decide(name);
    if (typeof treatment === 'object') {
      const cors = { 'access-control-allow-origin': incoming.headers.origin ?? '*' };
      outgoing.writeHead(treatment.status, { ...cors, ...treatment.headers }).end(treatment.body);
      return;
    }
    const headers = Object.fromEntries(
      Object.entries(incoming.headers).filter(([header]) => !hopByHop.includes(header)),
    ) as Record<string, string>;
    const answer = await fetch(`${target}${incoming.url}`, {
      method: incoming.method ?? 'GET',
      headers,
      ...(body.length === 0 ? {} : { body }),
    });
    const answered = Buffer.from(await answer.arrayBuffer());
    if (treatment === 'lose_answer') outgoing.destroy();
    else outgoing.writeHead(answer.status, Object.fromEntries(answer.headers)).end(answered);
  }

  const server = createServer((incoming, outgoing) => {
    pass(incoming, outgoing).catch(() => outgoing.destroy());
  }).listen(0, '127.0.0.1');
  // Between two requests of a slow test, a connection that is closed as it is used again would look like a lost answer.
  server.keepAliveTimeout = 120_000;
  await new Promise((resolve) => server.once('listening', resolve));
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    treat(decision) {
      decide = decision;
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Lets a system listen and returns where. */
export async function listen({ app }: System): Promise<string> {
  await app.listen({ host: '127.0.0.1', port: 0 });
  return `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`;
}

/** Makes a client that lives by the clock of the system. */
export function newClient({ clock }: System, doorway: Doorway, options: Partial<ClientOptions> = {}): LatchkeyClient {
  return createClient({ baseUrl: doorway.origin, now: clock.now, ...options });
}

/** What the service says while it cannot serve. */
export const unavailable = {
  status: 503,
  headers: { 'content-type': 'application/problem+json', 'retry-after': '0' },
  body: JSON.stringify({
    type: 'http://latchkey.test/docs/errors#temporarily_unavailable',
    title: 'The service cannot do this right now',
    status: 503,
    code: 'temporarily_unavailable',
    request_id: 'test',
  }),
};

/** How many of the requests that came are the one. */
export function countSeen({ seen }: Doorway, request: string): number {
  return seen.filter((name) => name === request).length;
}

/** The generations of all sessions of a user; each refresh adds one. */
export async function listGenerations({ deps }: System, email: string): Promise<number[]> {
  const rows = await deps.db
    .selectFrom('sessions')
    .innerJoin('users', 'users.id', 'sessions.user_id')
    .select('sessions.generation')
    .where('users.email', '=', email)
    .execute();
  return rows.map(({ generation }) => generation);
}
