import assert from 'node:assert/strict';
import { logIn, newEmail, openSession, proveAddress, readMe, refresh, type TestUser } from './accounts.ts';
import { administration, registerAdministrator } from './administrators.ts';
import { assertProblem, type Call, call } from './client.ts';
import type { System } from './system.ts';

/** Ends the session of `user`, from another one of the same account where the act needs one. */
type Ending = (here: System, user: TestUser, keeper: TestUser) => Promise<unknown>;

/** Every act after which a session that any instance has cached must be dead. */
export const sessionEndings: Readonly<Record<string, Ending>> = {
  'logout by access token': (here, user) => ok(here, { method: 'POST', path: '/auth/logout', token: user.accessToken }),
  'logout by refresh token': (here, user) =>
    ok(here, { method: 'POST', path: '/auth/logout', body: { refresh_token: user.refreshToken } }),
  'the end of one session': (here, user, keeper) =>
    ok(here, { method: 'DELETE', path: `/users/me/sessions/${sessionId(user)}`, token: keeper.accessToken }),
  'the end of all others': (here, _user, keeper) =>
    ok(here, { method: 'DELETE', path: '/users/me/sessions', token: keeper.accessToken }),
  'a change of the password': (here, user, keeper) =>
    ok(here, {
      method: 'PUT',
      path: '/users/me/password',
      token: keeper.accessToken,
      body: { current_password: user.password, new_password: `${user.password} new` },
    }),
  'a reset of the password': async (here, user) => {
    // The address had its code for the registration.
    here.clock.advanceSeconds(60);
    const token = await proveAddress(here, user.email, 'password_reset');
    const body = { verification_token: token, new_password: `${user.password} new` };
    await ok(here, { method: 'POST', path: '/auth/reset-password', body });
  },
  'the deletion of the account': (here, _user, keeper) =>
    ok(here, { method: 'DELETE', path: '/users/me', token: keeper.accessToken }),
  'the reuse of a refresh token': async (here, user) => {
    const { body } = await refresh(here, user.refreshToken);
    await refresh(here, body.refresh_token);
    here.clock.advanceSeconds(60);
    assertProblem(await refresh(here, user.refreshToken), 'refresh_token_reused');
  },
  'logins beyond the cap': async (here, user) => {
    const { SESSIONS_PER_USER_MAX } = here.deps.config.environment;
    for (let login = 0; login < SESSIONS_PER_USER_MAX; login += 1) {
      assert.equal((await logIn(here, user.email, user.password)).status, 200);
    }
  },
  'disabling the user': async (here, user) =>
    ok(here, (await asAdministrator(here)).change(user.id, { status: 'disabled' })),
  'a new address by an administrator': async (here, user) =>
    ok(here, (await asAdministrator(here)).change(user.id, { email: newEmail() })),
  'the end of all sessions by an administrator': async (here, user) =>
    ok(here, (await asAdministrator(here)).endSessions(user.id)),
  'deletion by an administrator': async (here, user) => ok(here, (await asAdministrator(here)).remove(user.id)),
};

async function asAdministrator(here: System) {
  return administration((await registerAdministrator(here)).accessToken);
}

/** Makes a request that must be carried out. */
export async function ok(system: System, request: Call): Promise<void> {
  const { status, text } = await call(system, request);
  assert.ok(status < 300, `${status} ${text}`);
}

/** A request that only the guard can refuse: it reads nothing of the user. */
export function listSessions({ accessToken }: TestUser): Call {
  return { method: 'GET', path: '/users/me/sessions', token: accessToken };
}

/** Reads the account, and waits until what was read is in the cache, where nobody else waits for it. */
export async function fillCache(instance: System, user: TestUser): Promise<void> {
  const giveUpAtMs = performance.now() + 5_000;
  do {
    assert.ok(performance.now() < giveUpAtMs, 'the session was not cached');
    assert.equal((await readMe(instance, user.accessToken)).status, 200);
  } while ((await instance.deps.sessionCache?.read(user.id, sessionId(user))) === undefined);
}

/** Lifts the block of an ending before, which would keep everything out of the cache. */
export async function unblock({ deps }: System, userId: string): Promise<void> {
  await deps.redis?.del(cacheKey(deps, userId));
}

/** Lifts the block of a change of a role, which would keep everybody out of the cache. */
export async function unblockAll({ deps }: System): Promise<void> {
  await deps.redis?.del(`${deps.redisPrefix}sessions-blocked`);
}

/** The key of a user's cached sessions in Redis. */
export function cacheKey({ redisPrefix }: System['deps'], userId: string): string {
  return `${redisPrefix}sessions:{${userId}}`;
}

/** The session of a user's tokens. */
export function sessionId({ refreshToken }: TestUser): string {
  return refreshToken.split('.')[1] ?? '';
}

/**
 * So many logouts here against reads there: nothing that was read before a logout may be served after it. Each round
 * is one session of the keeper's, and may change the sides.
 */
export async function raceReadsAgainstLogouts(
  keeper: TestUser,
  rounds: number,
  sidesOf: (round: number) => { here: System; there: System },
): Promise<void> {
  let served = 0;
  for (let round = 0; round < rounds; round += 1) {
    const { here, there } = sidesOf(round);
    const user = await openSession(here, keeper);
    await unblock(here, user.id);
    const reads = Array.from({ length: 4 }, async (_, step) => {
      for (let turn = 0; turn < (round + step) % 7; turn += 1) await new Promise(setImmediate);
      return readMe(there, user.accessToken);
    });
    await ok(here, { method: 'POST', path: '/auth/logout', token: user.accessToken });
    assertProblem(await readMe(there, user.accessToken), 'invalid_token');
    served += (await Promise.all(reads)).filter(({ status }) => status === 200).length;
    assertProblem(await readMe(there, user.accessToken), 'invalid_token');
  }
  assert.ok(served > rounds / 4 && served < rounds * 4, `${served} reads were before the logout`);
}
