import { lookup } from 'node:dns/promises';
import { type AddressInfo, createServer, Server, type Socket } from 'node:net';
import type { ApiInstance } from './api.ts';

/** Everything that listens for the application. */
export type Listener = {
  /**
   * Takes no new connections and waits for the requests under way, at most for the limit. Connections without a request
   * are kept for a moment: a balancer may just be reusing one, and would meet a reset.
   */
  close(drainLimitMs: number): Promise<void>;
};

const reuseGraceMs = 800;
const sweepEveryMs = 50;
// A machine may know ::1 as an address of localhost with IPv6 switched off.
const absentAddressCodes = new Set(['EADDRNOTAVAIL', 'EAFNOSUPPORT']);

/** Lists the addresses to listen on: for `localhost` those that clients may try, else the host itself. */
export async function listenAddresses(host: string): Promise<[string, ...string[]]> {
  if (host !== 'localhost') return [host];
  const found = await lookup(host, { all: true }).catch(() => []);
  const [first = '127.0.0.1', ...others] = new Set(found.map(({ address }) => address));
  return [first, ...others];
}

/**
 * Listens on every address. Fastify would open servers of its own for the further addresses of localhost, whose
 * requests nobody waits for when it closes; here one server serves them all. The log calls it by the name.
 */
export async function listen(
  app: ApiInstance,
  addresses: [string, ...string[]],
  port: number,
  name = 'Server',
): Promise<Listener> {
  const [first, ...others] = addresses;
  const sockets = trackSockets(app);
  await app.listen({ host: first, port, listenTextResolver: (address) => `${name} listening at ${address}` });
  const { port: boundPort } = app.server.address() as AddressInfo;
  const doors: Server[] = [];
  try {
    for (const address of others) doors.push(...(await openDoor(app, address, boundPort)));
  } catch (error) {
    await closeAll(app, doors);
    throw error;
  }
  return { close: (drainLimitMs) => drain(app, doors, sockets, drainLimitMs) };
}

async function openDoor(app: ApiInstance, host: string, port: number): Promise<Server[]> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  // The options are those that Node's HTTP server gives its own connections.
  const door = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => app.server.emit('connection', socket));
  if (app.server.maxConnections !== undefined) door.maxConnections = app.server.maxConnections;
  door.on('drop', (dropped) => app.server.emit('drop', dropped));
  door.once('error', reject).listen({ host, port }, resolve);
  try {
    await promise;
    return [door];
  } catch (error) {
    if (absentAddressCodes.has((error as NodeJS.ErrnoException).code ?? '')) return [];
    throw error;
  }
}

function trackSockets(app: ApiInstance): ReadonlySet<Socket> {
  const sockets = new Set<Socket>();
  app.server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  return sockets;
}

async function drain(
  app: ApiInstance,
  doors: readonly Server[],
  sockets: ReadonlySet<Socket>,
  limitMs: number,
): Promise<void> {
  // Node's HTTP server and Fastify would end the idle connections with the listening.
  const ended = [app.server, ...doors].map(stopListening);
  const graceEndsAtMs = performance.now() + reuseGraceMs;
  // A connection whose request has just been answered would be kept open for the next one.
  const sweep = setInterval(() => {
    if (performance.now() < graceEndsAtMs) return;
    app.server.closeIdleConnections();
    // Node.js 24 does not count a connection as idle before its first byte.
    for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy();
  }, sweepEveryMs);
  const limit = setTimeout(() => app.server.closeAllConnections(), limitMs);
  await Promise.all(ended);
  clearInterval(sweep);
  clearTimeout(limit);
  await app.close();
}

function stopListening(server: Server): Promise<unknown> {
  return new Promise((resolve) => Server.prototype.close.call(server, resolve));
}

async function closeAll(app: ApiInstance, doors: readonly Server[]): Promise<void> {
  const closed = doors.map((door) => new Promise((resolve) => door.close(resolve)));
  await Promise.all([app.close(), ...closed]);
}
