import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { newEmail } from './accounts.ts';
import { ask, converseOver, type Nginx, reasonForNoNginx, serverName, startNginx, type Way } from './nginx.ts';
import { type Program, startProgram } from './program.ts';
import { inScratch, readSqlite } from './scratch.ts';
import { smugglingShapes } from './smuggling-shapes.ts';
import { createScratch } from './system.ts';
import { until } from './until.ts';

// One machine has all of 127.0.0.0/8, so each party has an address of its own.
const client = '127.0.0.11';
const otherClient = '127.0.0.12';
const outerProxy = '127.0.0.3';
const proxy = '127.0.0.2';

// What a client writes to pass for somebody else.
const forgeries: [string, string[]][] = [
  ['X-Forwarded-For', ['X-Forwarded-For: 203.0.113.7']],
  ['the proxy itself', [`X-Forwarded-For: ${proxy}`]],
  ['nobody', ['X-Forwarded-For:']],
  ['a list', ['X-Forwarded-For: 203.0.113.7, 198.51.100.1, 127.0.0.1']],
  ['several headers', ['X-Forwarded-For: 203.0.113.7', 'x-forwarded-for: 198.51.100.1', 'X-FORWARDED-FOR: ::1']],
  ['a list without ends', ['X-Forwarded-For: ,,, ,']],
  ['IPv6', ['X-Forwarded-For: 2001:db8::1']],
  ['IPv6 with brackets and port', ['X-Forwarded-For: [2001:db8::1]:4711']],
  ['IPv4 with a port', ['X-Forwarded-For: 203.0.113.7:4711']],
  ['IPv4 in IPv6', ['X-Forwarded-For: ::ffff:203.0.113.7']],
  ['no address', ['X-Forwarded-For: unknown, <script>, 0x7f.1, \xff\xfe']],
  ['eight kilobytes', [`X-Forwarded-For: ${'203.0.113.7, '.repeat(630)}203.0.113.7`]],
  ['RFC 7239', ['Forwarded: for="[2001:db8::1]:4711";proto=https;host=evil.example;by=127.0.0.1']],
  ['X-Real-IP', ['X-Real-IP: 203.0.113.7', 'X-Client-IP: 203.0.113.7', 'True-Client-IP: 203.0.113.7']],
  ['a header with underscores', ['X_Forwarded_For: 203.0.113.7']],
  ['host and scheme', ['X-Forwarded-Host: evil.example', 'X-Forwarded-Proto: http', 'X-Forwarded-Port: 81']],
];

// What is not tried here has room enough for every test from one address.
const limits = 'login=100000/m/ip;refresh=3/m/ip';

describe('behind nginx with the recommended configuration', { skip: reasonForNoNginx }, () => {
  const cleanUp = new AsyncDisposableStack();
  let dataDir: string;
  let program: Program;
  let nginx: Nginx;
  let inner: Nginx;

  before(async () => {
    const scratch = await createScratch('sqlite+memory');
    cleanUp.defer(scratch.remove);
    dataDir = scratch.environment.DATA_DIR ?? '';
    program = await startProgram({
      // Which tells of probes too.
      LOG_LEVEL: 'debug',
      ...scratch.environment,
      PUBLIC_URL: `https://${serverName}`,
      TRUST_PROXY: `${proxy},${outerProxy}`,
      RATE_LIMITS: limits,
    });
    cleanUp.defer(async () => void (await program.stop('SIGKILL')));
    nginx = await startNginx({ upstreamPort: program.port, address: proxy });
    cleanUp.defer(nginx.stop);
    inner = await startNginx({ upstreamPort: program.port, address: proxy, isInner: true });
    cleanUp.defer(inner.stop);
  });
  after(() => cleanUp.disposeAsync());

  /** Tries a wrong password, which leaves an event with the address of the client, and returns that. */
  async function addressSeen(way: Way, headers: readonly string[]): Promise<unknown> {
    return addressSeenBy(dataDir, way, headers);
  }

  test('the address of a client is the one that nginx saw, whatever the client writes', async () => {
    for (const [title, headers] of forgeries) {
      assert.equal(await addressSeen({ ...nginx, from: client }, headers), client, title);
    }
    assert.equal(await addressSeen({ ...nginx, from: otherClient }, []), otherClient);
  });

  test('a proxy that adds to the list is believed for what it added, and the client for nothing', async () => {
    for (const [title, headers] of forgeries) {
      assert.equal(await addressSeen({ port: inner.port, from: client }, headers), client, title);
    }
  });

  test('so are two proxies in a row', async () => {
    const outer = await startNginx({ upstreamPort: inner.port, address: outerProxy });
    try {
      for (const [title, headers] of forgeries) {
        assert.equal(await addressSeen({ ...outer, from: otherClient }, headers), otherClient, title);
      }
    } finally {
      await outer.stop();
    }
  });

  test('two clients have two allowances, and no forged address gives another', async () => {
    const refresh = async (from: string, headers: readonly string[] = []): Promise<number> =>
      (await ask({ ...nginx, from }, 'POST /auth/refresh', headers, { refresh_token: 'x' })).status;
    for (let turn = 0; turn < 3; turn += 1) assert.equal(await refresh(client), 401);
    assert.equal(await refresh(client), 429);
    for (const [title, headers] of forgeries) assert.equal(await refresh(client, headers), 429, title);
    for (let turn = 0; turn < 3; turn += 1) assert.equal(await refresh(otherClient), 401);
    assert.equal(await refresh(otherClient), 429);
  });

  test('who comes past the proxy is not believed', async () => {
    for (const [title, headers] of forgeries) {
      assert.equal(await addressSeen({ port: program.port, from: client }, headers), client, title);
    }
  });

  test('answers and refusals arrive as Latchkey wrote them, and nothing in them follows a forged host', async () => {
    const headers = ['X-Forwarded-Host: evil.example', 'X-Forwarded-Proto: http', 'X-Forwarded-Prefix: /evil'];
    const refused = await ask(nginx, 'GET /users/me', headers);
    assert.equal(refused.status, 401);
    assert.equal(refused.body.type, `https://${serverName}/docs/errors#authentication_required`);
    assert.equal(refused.headers['strict-transport-security'], 'max-age=31536000');
    assert.doesNotMatch(refused.text, /evil/);
    const large = await ask(nginx, 'POST /auth/login', [], { email: 'x'.repeat(40_000), password: 'x' });
    assert.equal(large.body.code, 'content_too_large');
    const long = await ask(nginx, `GET /${'x'.repeat(15_500)}`, [`X-Filler: ${'x'.repeat(2_000)}`]);
    assert.equal(long.body.code, 'request_header_fields_too_large');
    assert.equal((await ask(nginx, 'GET /nope', [])).body.code, 'not_found');
  });

  test('of every shape that hides a request nginx and Latchkey see the same number of requests', async () => {
    const requestsMet = async (): Promise<string[]> => {
      const known = program.output().length;
      assert.equal((await ask(nginx, 'GET /health/live', [])).status, 200);
      // The log is written in the order of the requests, and a little later.
      await until(() => program.output().slice(known).includes('/health/live'));
      return program.output().match(/"route":null/g) ?? [];
    };
    const before = (await requestsMet()).length;
    const texts = await Promise.all(
      smugglingShapes(`Host: ${serverName}`).map(({ lines, body }) =>
        converseOver(nginx, `${lines.join('\r\n')}\r\n\r\n${body}`),
      ),
    );
    // What nginx keeps to Latchkey answers whoever comes next, and with the answer to what was asked.
    for (let turn = 0; turn < 5; turn += 1) {
      assert.deepEqual((await ask(nginx, 'GET /health/live', [])).body, { status: 'ok' });
    }
    // nginx is laxer with the end of a line: what follows there is a second request to it, which it passes on as one.
    // That is no deceit. Latchkey must have met the hidden request, for which it has no route, no more often than that.
    const passedOn = texts.join().match(/"code":"not_found"/g)?.length ?? 0;
    assert.equal((await requestsMet()).length - before, passedOn);
    assert.ok(passedOn <= 3, `${passedOn}`);
  });

  test('a stop gives nobody an error of nginx for what it passes on over a connection that it kept', async () => {
    assert.equal((await ask(nginx, 'GET /health/live', [])).status, 200);
    const ended = program.stop('SIGTERM');
    await until(() => program.output().includes('stopping'));
    assert.equal((await ask(nginx, 'GET /health/live', [])).status, 200);
    assert.equal((await ended).code, 0);
  });
});

describe('behind nginx without TRUST_PROXY', { skip: reasonForNoNginx }, () => {
  test('everybody has the address of the proxy, and one allowance', () =>
    inScratch(async (scratch) => {
      const program = await startProgram({ ...scratch, RATE_LIMITS: 'login=3/m/ip' });
      const nginx = await startNginx({ upstreamPort: program.port, address: proxy });
      try {
        const seen: unknown[] = [];
        for (const from of [client, otherClient, client]) {
          seen.push(await addressSeenBy(scratch.DATA_DIR, { ...nginx, from }, ['X-Forwarded-For: 203.0.113.7']));
        }
        assert.deepEqual(seen, [proxy, proxy, proxy]);
        const body = { email: newEmail(), password: 'x' };
        assert.equal((await ask({ ...nginx, from: otherClient }, 'POST /auth/login', [], body)).status, 429);
      } finally {
        await nginx.stop();
        await program.stop('SIGKILL');
      }
    }));
});

async function addressSeenBy(dataDir: string, way: Way, headers: readonly string[]): Promise<unknown> {
  const read = () => readSqlite(join(dataDir, 'latchkey.db'), 'select client_address from audit_events order by id');
  const before = read().length;
  const reply = await ask(way, 'POST /auth/login', headers, { email: newEmail(), password: 'wrong password' });
  assert.equal(reply.status, 401, reply.text);
  const events = read();
  assert.equal(events.length, before + 1);
  return events.at(-1)?.client_address;
}
