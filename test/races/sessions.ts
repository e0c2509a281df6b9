import assert from 'node:assert/strict';
import { openSession, readMe, refresh, registerUser, type TestUser } from '../accounts.ts';
import { assertProblem, type Call, call, takeStock } from '../client.ts';
import type { System } from '../system.ts';
import { inParallel, type Races } from './races.ts';

/** Races of sessions that have a grace for the refresh token just replaced. */
export const sessionRaces: Races = {
  '50 parallel refreshes of one token leave one live token': async (system) => {
    const user = await registerUser(system);
    const replies = await inParallel(50, () => refresh(system, user.refreshToken));
    assert.deepEqual(new Set(replies.map((reply) => reply.status)), new Set([200]));
    const successors = new Set(replies.map((reply) => reply.body.refresh_token as string));
    assert.equal(successors.size, 1);
    assert.equal(await generationOf(system, user), 1);
    const [successor = ''] = successors;
    assert.equal((await refresh(system, successor)).status, 200);
  },

  'parallel chains of refreshes lose nobody: each tab goes on with what it was given': async (system) => {
    const user = await registerUser(system);
    let tokens = [user.refreshToken, user.refreshToken, user.refreshToken];
    for (let round = 0; round < 20; round += 1) {
      tokens = await Promise.all(tokens.map((token) => refreshOk(system, token)));
      assert.equal(new Set(tokens).size, 1);
    }
    assert.equal(await generationOf(system, user), 20);
  },

  'a refresh that comes late takes nothing back: the newest token lives, or the reuse has ended the session': async (
    system,
    rounds,
  ) => {
    const user = await registerUser(system);
    for (let round = 0; round < rounds(20); round += 1) {
      const { refreshToken } = await openSession(system, user);
      const [newest, ...late] = await Promise.all([
        refreshOk(system, refreshToken).then((successor) => refresh(system, successor)),
        ...Array.from({ length: 6 }, () => refresh(system, refreshToken)),
      ]);
      for (const reply of late) if (reply.status !== 200) assert.equal(reply.status, 401);
      const wasReused = late.some(({ status }) => status === 401);
      assert.ok(wasReused || newest.status === 200, newest.text);
      if (newest.status !== 200) continue;
      const next = await refresh(system, newest.body.refresh_token);
      if (wasReused) assertProblem(next, 'invalid_refresh_token');
      else assert.equal(next.status, 200, next.text);
    }
  },

  '20 parallel reuses of a stolen token end the session once and send one mail': async (system) => {
    const user = await registerUser(system);
    await refreshOk(system, await refreshOk(system, user.refreshToken));
    const { mails = 0, audit_events: events = 0 } = await takeStock(system);
    const replies = await inParallel(20, () => refresh(system, user.refreshToken));
    for (const reply of replies) assert.equal(reply.status, 401);
    const after = await takeStock(system);
    assert.deepEqual([after.mails, after.audit_events], [mails + 1, events + 1]);
  },

  'a refresh racing a logout leaves nothing alive after the logout has answered': async (system, rounds) => {
    for (let round = 0; round < rounds(20); round += 1) {
      const user = await registerUser(system);
      const logOut: Call = { method: 'POST', path: '/auth/logout', body: { refresh_token: user.refreshToken } };
      const [refreshed, loggedOut] = await Promise.all([refresh(system, user.refreshToken), call(system, logOut)]);
      assert.equal(loggedOut.status, 204);
      if (refreshed.status !== 200) continue;
      assertProblem(await readMe(system, refreshed.body.access_token), 'invalid_token');
      assertProblem(await refresh(system, refreshed.body.refresh_token), 'invalid_refresh_token');
    }
  },
};

async function refreshOk(system: System, token: string): Promise<string> {
  const reply = await refresh(system, token);
  assert.equal(reply.status, 200, reply.text);
  return reply.body.refresh_token;
}

async function generationOf({ deps }: System, user: TestUser): Promise<number | undefined> {
  const id = user.refreshToken.split('.')[1] ?? '';
  const row = await deps.db.selectFrom('sessions').select('generation').where('id', '=', id).executeTakeFirst();
  return row?.generation;
}
