import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';

// Below the ports that Linux gives to outgoing connections (32768 and up): one of those could be taken by
// any client between this answer and the start of the server that it is for. Redis's cluster bus must fit too.
const lowestPort = 12_000;
const highestPort = 31_999;
const given = new Set<number>();

/** Finds a port of this machine on which nothing listens, and gives none to two callers. */
export async function findFreePort(): Promise<number> {
  for (let tries = 0; tries < 200; tries += 1) {
    const port = randomInt(lowestPort, highestPort + 1);
    if (given.has(port)) continue;
    given.add(port);
    if (await isFree(port)) return port;
  }
  throw new Error('no free port was found');
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
  } catch {
    return false;
  }
  server.close();
  await once(server, 'close');
  return true;
}
