import { isIP } from 'node:net';
import type { FastifyRequest } from 'fastify';
import ipaddr from 'ipaddr.js';

const unknownAddress = '0.0.0.0';

/**
 * The client's address in its shortest form, IPv4-mapped addresses unmapped. A proxy passes on whatever the
 * client wrote into X-Forwarded-For; where that is no address, the proxy's own is what is known.
 */
export function clientAddress(request: FastifyRequest): string {
  const known = [request.ip, request.socket.remoteAddress].map(withoutZone).find((text) => isIP(text) !== 0);
  return ipaddr.process(known ?? unknownAddress).toString();
}

// The zone of a link-local address means something on this machine alone, and has no fixed length.
function withoutZone(address: string | undefined): string {
  return address?.split('%', 1)[0] ?? '';
}
