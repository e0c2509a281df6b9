import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createMaintenance, type Maintenance } from '../src/maintenance/flow.ts';
import { readMe, registerUser } from './accounts.ts';
import { call } from './client.ts';
import {
  absoluteMs,
  assertAnswer,
  hasExpired,
  idleMs,
  isLive,
  liveSessions,
  type ModelUser,
  noteOpened,
  play,
  playRefresh,
  type Step,
  sessionsPerUser,
  type World,
} from './session-machine-model.ts';
import { describeOnBackends, type System } from './system.ts';
import { howOften } from './thorough.ts';

/*
 * Random histories that are played on the model of sessions and on the system at once. After every step both
 * must agree on every session that is alive, and on the answer to every token ever issued, old or new. Set
 * PROPERTY_RUNS for more histories than the usual ones.
 */

const usersInPlay = 2;

const user = fc.nat({ max: usersInPlay - 1 });
const session = fc.nat({ max: 7 });
// Mostly the newest token or the one before it, sometimes any of the older ones.
const age = fc.oneof(
  { arbitrary: fc.constant(0), weight: 4 },
  { arbitrary: fc.nat({ max: 2 }), weight: 3 },
  { arbitrary: fc.nat({ max: 9 }), weight: 1 },
);
const on = <const K extends Step['kind']>(kind: K) =>
  fc.record({ kind: fc.constant(kind), user, session, age }) as fc.Arbitrary<Step>;
const day = 24 * 60 * 60;
// Around the grace, around what is recent, past an access token, within and past the idle and the absolute life.
const seconds = fc.oneof(
  { arbitrary: fc.constantFrom(1, 29, 30, 31, 299, 301), weight: 8 },
  { arbitrary: fc.constantFrom(31 * 60, 4 * day), weight: 2 },
  { arbitrary: fc.constantFrom(8 * day, 31 * day), weight: 1 },
);
const step: fc.Arbitrary<Step> = fc.oneof(
  { arbitrary: fc.record({ kind: fc.constant('login' as const), user }), weight: 6 },
  { arbitrary: on('refresh'), weight: 12 },
  { arbitrary: on('logoutByRefresh'), weight: 2 },
  { arbitrary: on('logoutByAccess'), weight: 2 },
  { arbitrary: on('changePassword'), weight: 2 },
  { arbitrary: on('endOthers'), weight: 2 },
  { arbitrary: on('reauthenticate'), weight: 2 },
  { arbitrary: on('delete'), weight: 1 },
  {
    arbitrary: fc.record({ kind: fc.constant('endOne' as const), user, session, age, target: session }),
    weight: 2,
  },
  { arbitrary: fc.record({ kind: fc.constant('wait' as const), seconds }), weight: 7 },
  { arbitrary: fc.constant({ kind: 'sweep' as const }), weight: 1 },
);

/** The list of sessions, asked with a token that must work, shows exactly those that the model has alive. */
async function checkList(model: World, owner: ModelUser): Promise<void> {
  const live = liveSessions(model, owner);
  const access = live.flatMap((candidate) => candidate.accessTokens).findLast((token) => !hasExpired(model, token));
  if (access === undefined) return;
  const reply = await call(model.system, { method: 'GET', path: '/users/me/sessions', token: access.token });
  assertAnswer(reply, 200, 'a token that is alive');
  const listed = reply.body.items.map((item: { id: string }) => item.id);
  assert.deepEqual(listed, live.map(({ id }) => id).reverse(), 'the sessions that are alive');
}

async function checkAccessTokens(model: World, owner: ModelUser, newestOnly: boolean): Promise<void> {
  for (const candidate of owner.sessions) {
    for (const access of candidate.accessTokens.slice(newestOnly ? -1 : 0)) {
      const works = isLive(model, owner, candidate) && !hasExpired(model, access);
      assertAnswer(await readMe(model.system, access.token), works ? 200 : 'invalid_token', 'an access token');
    }
  }
}

async function playHistory(system: System, maintenance: Maintenance, history: readonly Step[]): Promise<void> {
  const model: World = { system, maintenance, users: [] };
  while (model.users.length < usersInPlay) {
    const account = await registerUser(system);
    const owner: ModelUser = { account, password: account.password, isDeleted: false, sessions: [] };
    const { accessToken: access_token, refreshToken: refresh_token } = account;
    noteOpened(model, owner, { access_token, refresh_token, refresh_token_expires_in: idleMs / 1000 });
    model.users.push(owner);
  }
  for (const move of history) {
    await play(model, move);
    for (const owner of model.users) {
      await checkList(model, owner);
      await checkAccessTokens(model, owner, true);
    }
  }
  for (const owner of model.users) {
    await checkAccessTokens(model, owner, false);
    // Using a refresh token changes the session, so the model goes along: the newest first, then ever older.
    for (const candidate of owner.sessions) {
      for (const token of candidate.refreshTokens.toReversed()) await playRefresh(model, owner, candidate, token);
    }
    await checkAccessTokens(model, owner, false);
  }
}

const environment = {
  SESSIONS_PER_USER_MAX: String(sessionsPerUser),
  SESSION_MAX_TTL_SECONDS: String(absoluteMs / 1000),
};

describeOnBackends('the state machine of sessions', environment, (system, backend) => {
  const numRuns = howOften({ brief: backend === 'sqlite+memory' ? 30 : 15, thorough: 300, variable: 'PROPERTY_RUNS' });

  test('no history leaves a token usable that is dead by the rules, or kills one that is alive', async () => {
    const maintenance = createMaintenance(system().deps);
    const history = fc.array(step, { minLength: 1, maxLength: 30, size: 'max' });
    await fc.assert(
      fc.asyncProperty(history, (steps) => playHistory(system(), maintenance, steps)),
      { numRuns },
    );
  });
});
