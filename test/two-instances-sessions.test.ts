import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { createLocalJWKSet, decodeProtectedHeader, jwtVerify } from 'jose';
import { sql } from 'kysely';
import { buildApp } from '../src/app.ts';
import { rotateSigningKeys } from '../src/keys/rotation.ts';
import { logIn, openSession, readMe, registerUser, type TestUser } from './accounts.ts';
import { assertProblem, call, type Reply } from './client.ts';
import { inLanes } from './races/races.ts';
import {
  cacheKey,
  fillCache,
  listSessions,
  raceReadsAgainstLogouts,
  sessionEndings,
  unblock,
} from './session-endings.ts';
import type { System } from './system.ts';
import { howOften } from './thorough.ts';
import { assertServesCached, waitForSigner } from './twins/exchange.ts';
import { startTwins, type Twins } from './twins/rig.ts';
import { reasonForNoTwins } from './twins/surroundings.ts';

const revocationRounds = howOften({ brief: 60, thorough: 200 });
const raceRounds = howOften({ brief: 30, thorough: 60 });
// Few, because some endings move the clock for the rounds of all.
const lanes = 4;

describe('sessions and keys over two instances', { skip: reasonForNoTwins }, () => {
  let twins: Twins;
  const both = () => [twins.one, twins.other];
  const sidesOf = (turn: number) => {
    const { one, other } = twins;
    return turn % 2 === 0 ? { here: one, there: other } : { here: other, there: one };
  };

  before(async () => {
    twins = await startTwins({ SESSIONS_PER_USER_MAX: '3', CODE_TTL_SECONDS: '900' });
  });
  after(() => twins?.close());

  test(`${revocationRounds} times whatever ends a session on one is obeyed by the very next request to the other`, async () => {
    const endings = Object.entries(sessionEndings);
    await inLanes(lanes, revocationRounds, async (round) => {
      const { here, there } = sidesOf(Math.floor(round / endings.length));
      const [name, end] = endings[round % endings.length] ?? [];
      assert.ok(end);
      const keeper = await registerUser(twins.system);
      const user = await openSession(twins.system, keeper);
      await fillCache(there, user);
      await end(here, user, keeper);
      for (const instance of [there, here]) {
        const reply = await call(instance, listSessions(user));
        assert.equal(reply.status, 401, `after ${name}`);
        assertProblem(reply, 'invalid_token');
      }
    });
  });

  test(`${raceRounds} races of reading on one against logging out on the other leave nothing alive`, async () => {
    await raceReadsAgainstLogouts(await registerUser(twins.system), raceRounds, sidesOf);
  });

  test('what is read while a revocation waits for its commit is not served after it', async () => {
    for (const turn of [0, 1]) {
      const { here, there } = sidesOf(turn);
      const { deps } = twins.system;
      const user = await registerUser(twins.system);
      const isBlocked = async () => {
        const key = { keys: [cacheKey(deps, user.id)], arguments: [] };
        return (await deps.redis?.eval("return redis.call('HEXISTS', KEYS[1], 'blocked_until')", key)) === 1;
      };
      let loggedOut = Promise.resolve<Reply | undefined>(undefined);
      await deps.db.transaction().execute(async (tx) => {
        // Every act writes its event last.
        await sql`lock table audit_events in exclusive mode`.execute(tx);
        loggedOut = call(here, { method: 'POST', path: '/auth/logout', token: user.accessToken });
        const giveUpAtMs = performance.now() + 5_000;
        while (!(await isBlocked())) assert.ok(performance.now() < giveUpAtMs, 'the logout blocks nothing');
        for (let read = 0; read < 5; read += 1) {
          assert.equal((await readMe(there, user.accessToken)).status, 200, 'it is not ended yet');
        }
      });
      assert.equal((await loggedOut)?.status, 204);
      for (const instance of [there, here]) assertProblem(await call(instance, listSessions(user)), 'invalid_token');
    }
  });

  test('one serves from the cache what the other has put in', async () => {
    for (const turn of [0, 1]) {
      const { here, there } = sidesOf(turn);
      const user = await registerUser(twins.system);
      await assertServesCached(there, here, user);
      await unblock(here, user.id);
      assertProblem(await call(there, listSessions(user)), 'invalid_token');
    }
  });

  test('a token signed elsewhere with a key from a moment ago is verified by both at once, and so are older ones', async () => {
    // A third instance: it rotates, and knows its keys before the two have heard of them.
    const third: System = { ...twins.system, app: await buildApp(twins.system.deps) };
    const older: TestUser[] = [];
    for (let round = 0; round < 5; round += 1) {
      const user = await registerUser(twins.system);
      older.push(user);
      await rotateSigningKeys(third.deps);
      // The second key was never shown as the next one, so that it must be looked up.
      const rotation = await rotateSigningKeys(third.deps);
      const { body } = await logIn(third, user.email, user.password);
      assert.equal(decodeProtectedHeader(body.access_token).kid, rotation?.activated);
      const replies = await Promise.all(both().map((instance) => readMe(instance, body.access_token)));
      assert.deepEqual(
        replies.map(({ status }) => status),
        [200, 200],
      );
      for (const { accessToken } of older) {
        for (const instance of both()) assert.equal((await readMe(instance, accessToken)).status, 200);
      }
    }
    await third.app.close();
  });

  test('within a second of the clock both sign with the key that was rotated to elsewhere, and show it', async () => {
    const user = await registerUser(twins.system);
    await rotateSigningKeys(twins.system.deps);
    const rotation = await rotateSigningKeys(twins.system.deps);
    twins.clock.advanceSeconds(1);
    for (const instance of both()) {
      const token = await waitForSigner(instance, user, rotation?.activated);
      const shown = await call(instance, { method: 'GET', path: '/.well-known/jwks.json' });
      const kids = shown.body.keys.map(({ kid }: { kid: string }) => kid);
      assert.ok([rotation?.activated, rotation?.retired, rotation?.next].every((kid) => kids.includes(kid)));
      for (const accessToken of [token, user.accessToken]) {
        const currentDate = new Date(twins.clock.now());
        await jwtVerify(accessToken, createLocalJWKSet(shown.body), { currentDate });
      }
    }
  });
});
