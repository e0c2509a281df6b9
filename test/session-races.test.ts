import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError } from '../src/errors.ts';
import { logOutByRefreshToken } from '../src/sessions/flow.ts';
import { refreshSession } from '../src/sessions/rotation.ts';
import { openSession, type TestUser } from './accounts.ts';
import { assertDead, raceRefreshes, refreshAgainstEnd } from './races/refreshes.ts';
import { describeOnBackends, type System } from './system.ts';
import { howOften } from './thorough.ts';

const rounds = howOften({ brief: 200, thorough: 1_000 });
const roundsOfStatements = howOften({ brief: 60, thorough: 300 });

describeOnBackends('races of sessions', { SESSIONS_PER_USER_MAX: '1000' }, (system) => {
  test(`${rounds} races of a refresh against an end leave nothing alive after the end is answered`, () =>
    raceRefreshes(system(), rounds, refreshAgainstEnd));

  test(`${roundsOfStatements} races of their statements leave nothing alive either`, () =>
    raceRefreshes(system(), roundsOfStatements, raceOfStatements));
});

/**
 * The same without HTTP between: the two sides start so few promises apart that their statements alternate,
 * which requests to the embedded database hardly ever do.
 */
async function raceOfStatements(system: System, keeper: TestUser, round: number): Promise<boolean> {
  const { deps } = system;
  const { accessToken, refreshToken } = await openSession(system, keeper);
  const context = {
    requestId: '',
    clientAddress: '203.0.113.7',
    userAgent: null,
    signal: AbortSignal.timeout(60_000),
  };
  const [issued] = await Promise.all([
    afterPromises(round % 37, () => refreshSession(deps, refreshToken, context)).catch((error: unknown) => {
      assert.ok(error instanceof AppError && error.code === 'invalid_refresh_token', String(error));
    }),
    afterPromises((round * 7) % 41, () => logOutByRefreshToken(deps, refreshToken, context)),
  ]);
  await assertDead(system, accessToken, refreshToken);
  if (issued === undefined) return false;
  await assertDead(system, issued.accessToken, issued.refreshToken);
  return true;
}

async function afterPromises<T>(count: number, act: () => Promise<T>): Promise<T> {
  for (let settled = 0; settled < count; settled += 1) await undefined;
  return act();
}
