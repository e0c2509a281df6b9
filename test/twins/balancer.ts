import { once } from 'node:events';
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';

/** A reverse proxy that gives each request to the next instance in turn. */
export type Balancer = {
  origin: string;
  add(origin: string): void;
  remove(origin: string): void;
  /** How many answers of each instance were passed on. */
  answered: ReadonlyMap<string, number>;
  /** How many requests went to another instance because their connection was closed as they came. */
  unheard(): number;
  /** Begins to ask every instance whether it is ready, and leaves out those that are not. */
  watch(): void;
  close(): Promise<void>;
};

const watchEveryMs = 100;
// They belong to one connection, and there are two.
const hopByHop = new Set(['connection', 'keep-alive', 'transfer-encoding']);

/** Starts a balancer without instances. It adds nothing to a request and passes answers on as they are. */
export async function startBalancer(): Promise<Balancer> {
  const agent = new Agent({ keepAlive: true });
  const origins: string[] = [];
  const absent = new Set<string>();
  const answered = new Map<string, number>();
  let turn = 0;
  let unheard = 0;
  let watching: NodeJS.Timeout | undefined;

  /** The instances to try for this request, the one whose turn it is first. */
  function inTurn(): string[] {
    turn += 1;
    const present = origins.filter((origin) => !absent.has(origin));
    const candidates = present.length > 0 ? present : origins;
    const first = turn % candidates.length;
    return [...candidates.slice(first), ...candidates.slice(0, first)];
  }

  async function pass(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const candidates = inTurn();
    const body = await buffer(incoming);
    for (const origin of candidates) {
      const response = await forward(agent, origin, incoming, body).catch((error: unknown) => {
        if (!(error instanceof NotTakenError)) throw error;
        if (error.wasConnected) unheard += 1;
        absent.add(origin);
      });
      if (response === undefined) continue;
      answered.set(origin, (answered.get(origin) ?? 0) + 1);
      outgoing.writeHead(response.statusCode ?? 502, endToEnd(response));
      response.pipe(outgoing);
      return;
    }
    throw new Error('no instance takes connections');
  }

  async function look(): Promise<void> {
    await Promise.all(
      origins.map(async (origin) => {
        if (await isReady(origin)) absent.delete(origin);
        else absent.add(origin);
      }),
    );
    if (watching !== undefined) watching = setTimeout(look, watchEveryMs);
  }

  const server = createServer((incoming, outgoing) => {
    pass(incoming, outgoing).catch((error: unknown) => outgoing.writeHead(502).end(String(error)));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    add: (origin) => void origins.push(origin),
    remove: (origin) => void origins.splice(origins.indexOf(origin), 1),
    answered,
    unheard: () => unheard,
    watch() {
      watching = setTimeout(look, 0);
    },
    async close() {
      clearTimeout(watching);
      watching = undefined;
      agent.destroy();
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** The instance cannot have taken the request, so it is safe with another one. */
class NotTakenError extends Error {
  override readonly name = 'NotTakenError';
  readonly wasConnected: boolean;

  constructor(wasConnected: boolean, cause: unknown) {
    super('the instance does not take requests', { cause });
    this.wasConnected = wasConnected;
  }
}

async function forward(agent: Agent, origin: string, incoming: IncomingMessage, body: Buffer) {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const { method = 'GET', url } = incoming;
  const outgoing = request(origin + url, { agent, method, headers: endToEnd(incoming) }, resolve);
  outgoing.once('error', (error: NodeJS.ErrnoException) => {
    // Either nobody listens, or a connection that was kept for the next request was closed when it came. That the
    // second was not taken either is for the test to show.
    const wasClosed = outgoing.reusedSocket && error.code === 'ECONNRESET';
    const isNotTaken = error.code === 'ECONNREFUSED' || wasClosed;
    reject(isNotTaken ? new NotTakenError(wasClosed, error) : error);
  });
  outgoing.end(body);
  return promise;
}

/** Asks on a connection of its own, so that an instance that takes no new ones is not ready. */
async function isReady(origin: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  request(`${origin}/health/ready`, { agent: false }, (response) => {
    response.resume();
    resolve(response.statusCode === 200);
  })
    .once('error', () => resolve(false))
    .end();
  return promise;
}

/** The headers that are for whoever is at the other end, as pairs in a row. */
function endToEnd({ rawHeaders }: IncomingMessage): string[] {
  return rawHeaders.filter((_, index) => !hopByHop.has((rawHeaders[index - (index % 2)] ?? '').toLowerCase()));
}
