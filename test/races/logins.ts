import assert from 'node:assert/strict';
import { logIn, openSession, proveAddress, readMe, refresh, registerUser } from '../accounts.ts';
import { assertProblem, type Call, call } from '../client.ts';
import { eventsOf, sessionsOf } from '../password-reset.ts';
import { inParallel, type Races } from './races.ts';

/** Races of logins, where a user may have 20 sessions. */
export const loginRaces: Races = {
  '20 parallel logins open 20 sessions': async (system) => {
    const user = await registerUser(system);
    const replies = await inParallel(20, () => logIn(system, user.email, user.password));
    assert.equal(new Set(replies.map((reply) => reply.body.refresh_token)).size, 20);
  },

  'parallel logins beyond the cap leave as many sessions as it allows, and tell nobody otherwise': async (system) => {
    const user = await registerUser(system);
    const opened = await inParallel(30, () => openSession(system, user));
    assert.equal(await sessionsOf(system, user.id), 20);
    const alive = await Promise.all(
      [user, ...opened].map(async ({ accessToken, refreshToken }) => {
        const [read, refreshed] = [await readMe(system, accessToken), await refresh(system, refreshToken)];
        assert.equal(read.status, refreshed.status, 'both tokens of a session live or die together');
        if (read.status !== 200) assertProblem(read, 'invalid_token');
        return read.status === 200;
      }),
    );
    assert.equal(alive.filter(Boolean).length, 20);
    assert.equal(alive[0], false, 'the oldest of all cannot be among them');
  },

  '50 parallel logins with one proof open one session': async (system) => {
    const user = await registerUser(system);
    system.clock.advanceSeconds(61);
    const verification_token = await proveAddress(system, user.email, 'login');
    const request: Call = { method: 'POST', path: '/auth/login/code', body: { verification_token } };
    const replies = await inParallel(50, () => call(system, request));
    assert.equal(replies.filter((reply) => reply.status === 200).length, 1);
    assert.equal(await sessionsOf(system, user.id), 2);
  },
};

/** Races of re-authentications. */
export const reauthenticationRaces: Races = {
  'of 20 parallel uses of one proof one gets through': async (system) => {
    const user = await registerUser(system);
    system.clock.advanceSeconds(362);
    const body = { verification_token: await proveAddress(system, user.email, 'login') };
    const request: Call = { method: 'POST', path: '/auth/reauthenticate', token: user.accessToken, body };
    const replies = await inParallel(20, () => call(system, request));
    assert.equal(replies.filter((reply) => reply.status === 204).length, 1);
    for (const reply of replies) if (reply.status !== 204) assertProblem(reply, 'invalid_verification_token');
    assert.equal((await eventsOf(system, user.id, 'session.reauthenticated')).length, 1);
  },
};
