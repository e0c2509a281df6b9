import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { openSession, readMe, refresh, registerUser, type TestUser } from '../accounts.ts';
import { assertProblem, type Call, call, type Reply } from '../client.ts';
import type { System } from '../system.ts';
import { inLanes } from './races.ts';

// So many rounds are under way at a time: enough to fill the pool of connections, so that statements of
// different rounds get between those of one.
const lanes = 8;

/** Plays a refresh against an end of one of the keeper's sessions. Returns whether the refresh got tokens. */
type RefreshRace = (system: System, keeper: TestUser, round: number) => Promise<boolean>;

/** Every way to end a session that must leave nothing of it alive. */
const endings: readonly ((session: TestUser, system: System, keeper: TestUser) => Promise<Reply>)[] = [
  (session, system) => logOut(system, { body: { refresh_token: session.refreshToken } }),
  (session, system) => logOut(system, { token: session.accessToken }),
  (session, system, { accessToken }) => {
    const path = `/users/me/sessions/${session.refreshToken.split('.')[1]}`;
    return call(system, { method: 'DELETE', path, token: accessToken });
  },
];

/** Plays so many races, and shows that both sides were first now and then and that none left anything behind. */
export async function raceRefreshes(system: System, rounds: number, play: RefreshRace): Promise<void> {
  const keeper = await registerUser(system);
  let refreshedFirst = 0;
  await inLanes(lanes, rounds, async (round) => {
    if (await play(system, keeper, round)) refreshedFirst += 1;
  });
  const query = system.deps.db.selectFrom('sessions').select('id').where('user_id', '=', keeper.id);
  const ids = (await query.execute()).map(({ id }) => id);
  assert.deepEqual(ids, [keeper.refreshToken.split('.')[1]]);
  assert.equal((await readMe(system, keeper.accessToken)).status, 200);
  // A race that one side always wins shows nothing.
  assert.ok(refreshedFirst > rounds / 50 && refreshedFirst < rounds, `the refresh was faster ${refreshedFirst} times`);
}

/** A refresh against an end, over HTTP. */
export const refreshAgainstEnd: RefreshRace = async (system, keeper, round) => {
  const session = await openSession(system, keeper);
  const end = endings[round % endings.length];
  assert.ok(end);
  const refreshing = afterSteps(round % 31, () => refresh(system, session.refreshToken));
  const ending = afterSteps((round * 7) % 29, () => end(session, system, keeper)).then(async (reply) => {
    assert.equal(reply.status, 204, reply.text);
    // Asked at once, whether the refresh has been answered or not.
    await assertDead(system, session.accessToken, session.refreshToken);
  });
  const [refreshed] = await Promise.all([refreshing, ending]);
  if (refreshed.status !== 200) {
    assertProblem(refreshed, 'invalid_refresh_token');
    return false;
  }
  await assertDead(system, refreshed.body.access_token, refreshed.body.refresh_token);
  return true;
};

/** Shows that neither token of a session is good for anything. */
export async function assertDead(system: System, accessToken: string, refreshToken: string): Promise<void> {
  assertProblem(await readMe(system, accessToken), 'invalid_token');
  assertProblem(await refresh(system, refreshToken), 'invalid_refresh_token');
}

function logOut(system: System, how: Pick<Call, 'body' | 'token'>): Promise<Reply> {
  return call(system, { method: 'POST', path: '/auth/logout', ...how });
}

/** Begins after so many small steps, so that the two sides of a race meet at different points from round to round. */
async function afterSteps<T>(steps: number, act: () => Promise<T>): Promise<T> {
  for (let step = 0; step < steps; step += 1) {
    if (step % 8 === 7) await nextTurn();
    else await new Promise<void>((resolve) => process.nextTick(resolve));
  }
  return act();
}
