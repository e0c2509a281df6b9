import ipaddr from 'ipaddr.js';

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
