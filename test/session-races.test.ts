import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { AppError } from '../src/errors.ts';
import { logOutByRefreshToken } from '../src/sessions/flow.ts';
import { refreshSession } from '../src/sessions/rotation.ts';
import { openSession, readMe, refresh, registerUser, type TestUser } from './accounts.ts';
import { assertProblem, type Call, call, type Reply } from './client.ts';
import { describeOnBackends, type System } from './system.ts';

const rounds = 1_000;
const roundsOfStatements = 300;
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

/** Begins after so many small steps, so that the two sides of a race meet at different points from round to round. */
async function afterSteps<T>(steps: number, act: () => Promise<T>): Promise<T> {
  for (let step = 0; step < steps; step += 1) {
    if (step % 8 === 7) await nextTurn();
    else await new Promise<void>((resolve) => process.nextTick(resolve));
  }
  return act();
}

async function afterPromises<T>(count: number, act: () => Promise<T>): Promise<T> {
  for (let settled = 0; settled < count; settled += 1) await undefined;
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
    const refreshing = afterSteps(number % 31, () => refresh(system(), session.refreshToken));
    const ending = afterSteps((number * 7) % 29, () => end({ session, number }, system(), keeper)).then(
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

  /**
   * The same without HTTP between: the two sides start so few promises apart that their statements alternate,
   * which requests to the embedded database hardly ever do.
   */
  async function raceOfStatements(keeper: TestUser, number: number): Promise<boolean> {
    const { deps } = system();
    const { accessToken, refreshToken } = await openSession(system(), keeper);
    const context = {
      requestId: '',
      clientAddress: '203.0.113.7',
      userAgent: null,
      signal: AbortSignal.timeout(60_000),
    };
    const [issued] = await Promise.all([
      afterPromises(number % 37, () => refreshSession(deps, refreshToken, context)).catch((error: unknown) => {
        assert.ok(error instanceof AppError && error.code === 'invalid_refresh_token', String(error));
      }),
      afterPromises((number * 7) % 41, () => logOutByRefreshToken(deps, refreshToken, context)),
    ]);
    await assertDead(system(), accessToken, refreshToken);
    if (issued === undefined) return false;
    await assertDead(system(), issued.accessToken, issued.refreshToken);
    return true;
  }

  type Race = (keeper: TestUser, number: number) => Promise<boolean>;

  async function runRaces(count: number, play: Race): Promise<void> {
    const keeper = await registerUser(system());
    let next = 0;
    let refreshedFirst = 0;
    const lane = async () => {
      while (next < count) {
        const number = next;
        next += 1;
        if (await play(keeper, number)) refreshedFirst += 1;
      }
    };
    await Promise.all(Array.from({ length: lanes }, lane));
    const { db } = system().deps;
    const left = await db.selectFrom('sessions').select('id').where('user_id', '=', keeper.id).execute();
    const ids = left.map(({ id }) => id);
    assert.deepEqual(ids, [keeper.refreshToken.split('.')[1]]);
    assert.equal((await readMe(system(), keeper.accessToken)).status, 200);
    // A race that one side always wins shows nothing.
    assert.ok(refreshedFirst > count / 50 && refreshedFirst < count, `the refresh was faster ${refreshedFirst} times`);
  }

  test(`${rounds} races of a refresh against an end leave nothing alive after the end is answered`, () =>
    runRaces(rounds, race));

  test(`${roundsOfStatements} races of their statements leave nothing alive either`, () =>
    runRaces(roundsOfStatements, raceOfStatements));
});
