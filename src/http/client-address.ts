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

/**
 * What counts as one client in a limit: an IPv4 address, or the /64 that one subscriber has of IPv6, where
 * anybody can use 2^64 addresses.
 */
export function clientNetwork(address: string): string {
  if (!ipaddr.isValid(address)) return address;
  const parsed = ipaddr.process(address);
  if (parsed.kind() === 'ipv4') return parsed.toString();
  return `${ipaddr.IPv6.networkAddressFromCIDR(`${parsed.toString()}/64`).toString()}/64`;
}
