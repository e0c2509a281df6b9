import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { fastify } from 'fastify';
import { clientNetwork } from '../client-network.ts';
import { clientAddress } from './client-address.ts';

const proxy = '10.0.0.1';

describe('the client address', () => {
  test('is what the trusted proxy says, in its shortest form', async () => {
    assert.equal(await addressBehindProxy('203.0.113.7'), '203.0.113.7');
    assert.equal(await addressBehindProxy('2001:0db8:0:0::0001'), '2001:db8::1');
    assert.equal(await addressBehindProxy('::ffff:203.0.113.7'), '203.0.113.7');
    assert.equal(await addressBehindProxy('198.51.100.1, 203.0.113.7'), '203.0.113.7');
    assert.equal(await addressBehindProxy('fe80::1%eth0'), 'fe80::1');
  });

  test('is the proxy’s own where what it passed on is no address', async () => {
    const strange = [
      'x'.repeat(3_000),
      '1',
      '10.1',
      '0x7f.0.0.1',
      'unknown',
      '203.0.113.7:4711',
      '<script>',
      '""',
      ' ',
    ];
    for (const forwarded of strange) assert.equal(await addressBehindProxy(forwarded), proxy, forwarded.slice(0, 40));
    const longZone = `fe80::1%${'x'.repeat(3_000)}`;
    assert.ok((await addressBehindProxy(longZone)).length <= 45);
  });

  test('is 0.0.0.0 where the connection has none any more', () => {
    const gone = { ip: undefined, socket: { remoteAddress: undefined } };
    assert.equal(clientAddress(gone as never), '0.0.0.0');
  });

  test('counts as one network with the rest of its /64', () => {
    assert.equal(clientNetwork('203.0.113.7'), '203.0.113.7');
    assert.equal(clientNetwork('2001:db8:1:2:3:4:5:6'), '2001:db8:1:2::/64');
    assert.equal(clientNetwork('2001:db8:1:2::'), '2001:db8:1:2::/64');
  });
});

/** The address seen of a client whose request a trusted proxy passed on with this X-Forwarded-For. */
async function addressBehindProxy(forwarded: string): Promise<string> {
  const app = fastify({ trustProxy: [proxy] });
  app.get('/', async (request) => clientAddress(request));
  const reply = await app.inject({ path: '/', remoteAddress: proxy, headers: { 'x-forwarded-for': forwarded } });
  await app.close();
  return reply.body;
}
