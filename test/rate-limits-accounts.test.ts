import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createClient } from '@redis/client';
import type { OpenAPIV3_1 } from 'openapi-types';
import { newId } from '../src/crypto/ids.ts';
import { formatPolicies } from '../src/limit-grammar.ts';
import { limitTable } from '../src/limit-table.ts';
import { goodPassword, logIn, newEmail, readMe, registerUser, type TestUser } from './accounts.ts';
import { registerAdministrator } from './administrators.ts';
import { redisUrl } from './backends.ts';
import { assertProblem, assertRefused, type Call, call, type Reply } from './client.ts';
import { describeOnBackends, startPeer } from './system.ts';

let clients = 0;

/** An address that no other test uses. */
function newClient(): string {
  clients += 1;
  return `198.51.${Math.floor(clients / 250)}.${clients % 250}`;
}

const wrongLogin = (email: string, remoteAddress: string): Call => ({
  method: 'POST',
  path: '/auth/login',
  body: { email, password: 'wrong password' },
  remoteAddress,
});

const statusesOf = (replies: readonly Reply[]) => replies.map(({ status }) => status);

describeOnBackends(
  'limits by account and by pair',
  { RATE_LIMITS: 'login=8/m/ip,12/h/account,3/h/pair;write=3/m/account;verify-code=30/m/ip,2/m/pair' },
  (system, backend) => {
    const isShared = backend === 'postgres+redis';

    /** Makes a request so many times, one after the other. */
    async function repeat(times: number, request: (turn: number) => Call): Promise<Reply[]> {
      const replies: Reply[] = [];
      for (let turn = 0; turn < times; turn += 1) replies.push(await call(system(), request(turn)));
      return replies;
    }

    test('by pair, an account at one client is refused exactly beyond the limit, and elsewhere it is not', async () => {
      const [email, client] = [newEmail(), newClient()];
      const replies = await repeat(3, () => wrongLogin(email, client));
      assert.deepEqual(statusesOf(replies), [401, 401, 401]);
      assert.deepEqual(
        replies.map(({ headers }) => headers.ratelimit?.split(';t=')[0]),
        ['"login:pair";r=2', '"login:pair";r=1', '"login:pair";r=0'],
      );
      const refused = await assertRefused(system(), wrongLogin(email, client), 'too_many_requests');
      assert.equal(
        refused.headers['ratelimit-policy'],
        '"login";q=8;w=60, "login:account";q=12;w=3600, "login:pair";q=3;w=3600',
      );
      assert.match(refused.headers.ratelimit ?? '', /^"login:pair";r=0;t=3\d{3}$/);
      assert.match(refused.headers['retry-after'] ?? '', /^3\d{3}$/);
      assert.equal((await call(system(), wrongLogin(email, newClient()))).status, 401);
      assert.equal((await call(system(), wrongLogin(newEmail(), client))).status, 401);
    });

    test('by account, all clients together use up what they may do', async () => {
      const email = newEmail();
      const replies = await repeat(12, () => wrongLogin(email, newClient()));
      assert.deepEqual(new Set(statusesOf(replies)), new Set([401]));
      const refused = await call(system(), wrongLogin(email, newClient()));
      assertProblem(refused, 'too_many_requests');
      assert.match(refused.headers.ratelimit ?? '', /^"login:account";r=0;/);
    });

    test('what the client’s limit refuses does not use up the account’s, nor that the pair’s', async () => {
      const [client, email] = [newClient(), newEmail()];
      await repeat(8, () => wrongLogin(newEmail(), client));
      for (const reply of await repeat(5, () => wrongLogin(email, client))) {
        assertProblem(reply, 'too_many_requests');
        assert.equal(reply.headers['ratelimit-policy'], '"login";q=8;w=60');
      }
      const first = await call(system(), wrongLogin(email, newClient()));
      assert.match(first.headers.ratelimit ?? '', /^"login:pair";r=2/);
      // Eleven are left of the account's twelve.
      const others = await repeat(11, () => wrongLogin(email, newClient()));
      assert.deepEqual(new Set(statusesOf(others)), new Set([401]));
      assertProblem(await call(system(), wrongLogin(email, newClient())), 'too_many_requests');
    });

    test('every spelling of an address is one account', async () => {
      const [email, client] = [`Ada.${newEmail()}`, newClient()];
      const spellings = [email, email.toUpperCase(), email.toLowerCase(), `${email.split('@')[0]}@EXAMPLE.COM`];
      assert.deepEqual(
        statusesOf(await repeat(4, (turn) => wrongLogin(spellings[turn] ?? '', client))),
        [401, 401, 401, 429],
      );
    });

    test('the answers about an account that exists and one that does not are the same', async () => {
      const { email } = await registerUser(system());
      const known = await Promise.all(
        [email, newEmail()].map(async (address) => {
          const client = newClient();
          return repeat(5, () => wrongLogin(address, client));
        }),
      );
      const shown = known.map((replies) =>
        replies.map(({ status, headers, body }) => {
          const { 'content-length': length, ratelimit, 'ratelimit-policy': policy } = headers;
          const { request_id: _requestId, ...problem } = body;
          // A second may pass between the two.
          return { status, length, policy, left: ratelimit?.split(';t=')[0], problem };
        }),
      );
      assert.deepEqual(shown[0], shown[1]);
    });

    test('a body that is refused, and an address that is none, use up no account', async () => {
      const client = newClient();
      const requests: Call[] = ['nobody', '', 'a@b', 7, null].map((email) => {
        return { method: 'POST', path: '/auth/login', body: { email, password: 'x' }, remoteAddress: client };
      });
      for (const request of requests) {
        const { status, headers } = await call(system(), request);
        assert.equal(status, 422);
        assert.equal(headers['ratelimit-policy'], '"login";q=8;w=60');
      }
    });

    test('behind an access token the account is its user, wherever and in whatever session', async () => {
      const [user, other] = [await registerUser(system()), await registerUser(system())];
      const change = ({ accessToken: token }: TestUser, remoteAddress: string): Call => {
        return { method: 'PATCH', path: '/users/me', body: { name: 'Ada' }, token, remoteAddress };
      };
      assert.deepEqual(statusesOf(await repeat(3, () => change(user, newClient()))), [200, 200, 200]);
      await assertRefused(system(), change(user, newClient()), 'too_many_requests');
      assert.equal((await call(system(), change(other, newClient()))).status, 200);
      assert.equal((await readMe(system(), user.accessToken)).status, 200, 'reading has a limit of its own');
      const unauthenticated = await call(system(), {
        method: 'PATCH',
        path: '/users/me',
        body: { name: 'x' },
        token: 'x',
      });
      assertProblem(unauthenticated, 'invalid_token');
    });

    test('guesses of a code beyond the limit are refused before they are tried', async () => {
      const [email, remoteAddress] = [newEmail(), newClient()];
      const guess = (): Call => {
        const body = { email, purpose: 'registration', code: '000000' };
        return { method: 'POST', path: '/auth/verify-code', body, remoteAddress };
      };
      assert.deepEqual(statusesOf(await repeat(3, guess)), [400, 400, 429]);
    });

    test('what is kept of an account names no address', { skip: !isShared }, async () => {
      const [email, client] = [newEmail(), newClient()];
      await call(system(), wrongLogin(email, client));
      const redis = createClient({ url: redisUrl });
      await redis.connect();
      const keys = await redis.keys(`${system().deps.redisPrefix}limit:*`);
      redis.destroy();
      assert.ok(keys.some((key) => key.includes(':limit:login:account:h:')));
      assert.ok(keys.some((key) => key.includes(':limit:login:pair:h:')));
      assert.ok(keys.every((key) => !key.includes('@') && !key.includes(email.split('@')[0] ?? '')));
    });

    test('two instances count an account together', { skip: !isShared }, async () => {
      const peer = await startPeer(system());
      const [email, client] = [newEmail(), newClient()];
      const statuses: number[] = [];
      for (const instance of [system(), peer, system(), peer, system()]) {
        statuses.push((await call(instance, wrongLogin(email, client))).status);
      }
      assert.deepEqual(statuses, [401, 401, 401, 429, 429]);
      await peer.close();
    });
  },
);

describeOnBackends('the default limits', { RATE_LIMITS: 'on' }, (system) => {
  test('every operation has one, but those that cost nothing and have no caller to name', async () => {
    const { paths = {} } = system().app.swagger() as OpenAPIV3_1.Document;
    const requests = Object.entries(paths).flatMap(([path, item]) =>
      Object.keys(item ?? {}).map((method) => ({
        path: path.replace(/\{.+?\}/g, newId()),
        method: method.toUpperCase(),
      })),
    );
    const ends = ['DELETE /users/me', 'POST /auth/logout'];
    const [kept, deleted, loggedOut] = [
      // Who may do everything: what is refused for a lack of rights is not counted.
      await registerAdministrator(system()),
      await registerUser(system()),
      await registerUser(system()),
    ];
    const without: string[] = [];
    for (const { path, method } of requests) {
      const operation = `${method} ${path}`;
      const user = [deleted, loggedOut][ends.indexOf(operation)] ?? kept;
      const hasBody = method !== 'GET' && method !== 'DELETE' && path !== '/auth/logout';
      const reply = await system().app.inject({
        method: method as 'GET',
        url: path,
        remoteAddress: newClient(),
        headers: {
          authorization: `Bearer ${user.accessToken}`,
          ...(hasBody ? { 'content-type': 'application/json' } : {}),
        },
        ...(hasBody ? { payload: '{}' } : {}),
      });
      if (reply.headers['ratelimit-policy'] === undefined) without.push(operation);
    }
    assert.deepEqual(without.sort(), ['GET /.well-known/jwks.json', 'GET /health/live', 'GET /health/ready']);
  });

  test('the owner of an account logs in from home while somebody elsewhere tries passwords without end', async () => {
    const { email } = await registerUser(system());
    const attackers = Array.from({ length: 20 }, newClient);
    for (const client of attackers) {
      for (let turn = 0; turn < 3; turn += 1) await call(system(), wrongLogin(email, client));
    }
    // From where the account was registered: elsewhere the owner has to wait like any other, or logs in with a code.
    assert.equal((await logIn(system(), email, goodPassword)).status, 200);
  });

  test('of several that block, the one that blocks longest says when to come back', async () => {
    const [email, remoteAddress] = [newEmail(), newClient()];
    const { rateLimits } = system().deps.config;
    assert.equal(formatPolicies(rateLimits?.['verify-code'] ?? []), limitTable['verify-code'].policies);
    const guess = (): Call => {
      return {
        method: 'POST',
        path: '/auth/verify-code',
        body: { email, purpose: 'login', code: '000000' },
        remoteAddress,
      };
    };
    for (let turn = 0; turn < 30; turn += 1) await call(system(), guess());
    // The limit of the client is what refuses; that of the pair is used up too, but is not known before the body.
    assert.match((await call(system(), guess())).headers['retry-after'] ?? '', /^[1-5]?\d$|^60$/);
    const elsewhere = await call(system(), { ...guess(), remoteAddress: newClient() });
    assert.equal(elsewhere.status, 400);
  });
});

describeOnBackends('several stretches of one scope', { RATE_LIMITS: 'login=4/h/ip,2/s/ip' }, (system) => {
  test('are told apart by name, and the longest that blocks counts', async () => {
    const remoteAddress = newClient();
    const request: Call = {
      method: 'POST',
      path: '/auth/login/code',
      body: { verification_token: 'x' },
      remoteAddress,
    };
    const replies = await Promise.all(Array.from({ length: 12 }, () => call(system(), request)));
    const refused = replies.filter(({ status }) => status === 429);
    assert.ok(refused.length >= 8);
    for (const { headers } of replies) {
      assert.equal(headers['ratelimit-policy'], '"login:s";q=2;w=1, "login:h";q=4;w=3600');
    }
    // What the second refused did not use up the hour.
    const left = replies.map(({ headers }) => headers.ratelimit ?? '').filter((text) => text.startsWith('"login:h"'));
    if (refused.length === 10) assert.ok(left.every((text) => !text.startsWith('"login:h";r=0')));
  });
});

describeOnBackends('clients of IPv6', { RATE_LIMITS: 'login=2/m/ip' }, (system) => {
  const from = (remoteAddress: string) =>
    call(system(), { method: 'POST', path: '/auth/login/code', body: { verification_token: 'x' }, remoteAddress });

  test('are one client with their whole /64, and no other', async () => {
    assert.deepEqual(
      statusesOf([await from('2001:db8:1:2::1'), await from('2001:db8:1:2:ffff::2'), await from('2001:DB8:1:2::3')]),
      [400, 400, 429],
    );
    assert.equal((await from('2001:db8:1:3::1')).status, 400);
  });

  test('are those of IPv4 where the address is mapped', async () => {
    const statuses = statusesOf([
      await from('::ffff:192.0.2.9'),
      await from('192.0.2.9'),
      await from('::ffff:c000:0209'),
    ]);
    assert.deepEqual(statuses, [400, 400, 429]);
    assert.equal((await from('::ffff:192.0.2.10')).status, 400);
  });
});
