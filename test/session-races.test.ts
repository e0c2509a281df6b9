import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { openSession, readMe, refresh, registerUser, type TestUser } from './accounts.ts';
import { assertProblem, type Call, call, type Reply } from './client.ts';
import { describeOnBackends, type System } from './system.ts';

const rounds = 1_000;
// So many rounds are under way at a time: enough to fill the pool of connections, so that statements of
// different rounds get between those of one.
const lanes = 8;

type Round = { session: TestUser; number: number };

/** Every way to end a session that must leave nothing of it alive. */
const endings: readonly ((round: Round, system: System, keeper: TestUser) => Promise<Reply>)[] = [
  ({ session }, system) => logOut(system, { body: { refresh_token: session.refreshToken } }),
  ({ session }, system) => logOut(system, { token: session.accessToken }),
  ({ session }, system, { accessToken }) => {
    const path = `/users/me/sessions/${session.refreshToken.split('.')[1]}`;
    return call(system, { method: 'DELETE', path, token: accessToken });
  },
];

function logOut(system: System, how: Pick<Call, 'body' | 'token'>): Promise<Reply> {
  return call(system, { method: 'POST', path: '/auth/logout', ...how });
}

/** Lets some turns of the event loop pass, so that the two sides of a race meet at different points. */
async function afterTurns<T>(turns: number, act: () => Promise<T>): Promise<T> {
  for (let turn = 0; turn < turns; turn += 1) await nextTurn();
  return act();
}

async function assertDead(system: System, accessToken: string, refreshToken: string): Promise<void> {
  assertProblem(await readMe(system, accessToken), 'invalid_token');
  assertProblem(await refresh(system, refreshToken), 'invalid_refresh_token');
}

describeOnBackends('races of sessions', { SESSIONS_PER_USER_MAX: '1000' }, (system) => {
  /** Plays one race to its end. Returns whether the refresh was answered with tokens. */
  async function race(keeper: TestUser, number: number): Promise<boolean> {
    const session = await openSession(system(), keeper);
    const end = endings[number % endings.length];
    assert.ok(end);
    const refreshing = afterTurns(number % 4, () => refresh(system(), session.refreshToken));
    const ending = afterTurns(Math.floor(number / 4) % 4, () => end({ session, number }, system(), keeper)).then(
      async (reply) => {
        assert.equal(reply.status, 204, reply.text);
        // Asked at once, whether the refresh has been answered or not.
        await assertDead(system(), session.accessToken, session.refreshToken);
      },
    );
    const [refreshed] = await Promise.all([refreshing, ending]);
    if (refreshed.status !== 200) {
      assertProblem(refreshed, 'invalid_refresh_token');
      return false;
    }
    await assertDead(system(), refreshed.body.access_token, refreshed.body.refresh_token);
    return true;
  }

  test(`${rounds} races of a refresh against an end leave nothing alive after the end is answered`, async () => {
    const keeper = await registerUser(system());
    let next = 0;
    let refreshedFirst = 0;
    const lane = async () => {
      while (next < rounds) {
        const number = next;
        next += 1;
        if (await race(keeper, number)) refreshedFirst += 1;
      }
    };
    await Promise.all(Array.from({ length: lanes }, lane));
    const left = await system().deps.db.selectFrom('sessions').select('id').where('user_id', '=', keeper.id).execute();
    assert.deepEqual(
      left.map(({ id }) => id),
      [keeper.refreshToken.split('.')[1]],
    );
    assert.equal((await readMe(system(), keeper.accessToken)).status, 200);
    // A race that one side always wins shows nothing.
    assert.ok(
      refreshedFirst > rounds / 50 && refreshedFirst < rounds,
      `the refresh was faster ${refreshedFirst} times`,
    );
  });
});
