import { setTimeout as sleep } from 'node:timers/promises';
import { logIn, newEmail, readMe, refresh, registerUser, sendCode, type TestUser } from '../accounts.ts';
import { call, type Reply } from '../client.ts';
import type { System } from '../system.ts';

/** People who use the service all the time, one request after the other each. */
export type Load = {
  /** The users, with the tokens that they hold now. */
  users: readonly TestUser[];
  /** How many requests were answered as they must be. */
  answered(): number;
  /** Waits until so many more were answered. */
  more(requests: number): Promise<void>;
  /** Every answer that was not the proper one. */
  wrong: readonly string[];
  /** Lets every request under way finish. */
  stop(): Promise<void>;
};

type Act = { name: string; expected: number; request(system: System, user: TestUser): Promise<Reply> };

const pauseMs = 10;
const moreLimitMs = 10_000;

/** What a user does, in turn. */
const acts: readonly Act[] = [
  { name: 'read', expected: 200, request: (system, user) => readMe(system, user.accessToken) },
  {
    name: 'refresh',
    expected: 200,
    async request(system, user) {
      const reply = await refresh(system, user.refreshToken);
      if (reply.status === 200) {
        user.accessToken = reply.body.access_token;
        user.refreshToken = reply.body.refresh_token;
      }
      return reply;
    },
  },
  {
    name: 'update',
    expected: 200,
    request: (system, { accessToken: token }) =>
      call(system, { method: 'PATCH', path: '/users/me', token, body: { name: newEmail() } }),
  },
  { name: 'send a code', expected: 202, request: (system) => sendCode(system, newEmail(), 'registration') },
  {
    name: 'log out',
    expected: 204,
    async request(system, user) {
      const opened = await logIn(system, user.email, user.password);
      if (opened.status !== 200) return opened;
      const body = { refresh_token: opened.body.refresh_token };
      return call(system, { method: 'POST', path: '/auth/logout', body });
    },
  },
];

/** Registers so many users and lets them begin. */
export async function startLoad(system: System, count: number): Promise<Load> {
  const users: TestUser[] = [];
  for (let index = 0; index < count; index += 1) users.push(await registerUser(system));
  const wrong: string[] = [];
  let answered = 0;
  let isStopping = false;

  const loops = users.map(async (user, index) => {
    for (let turn = index; !isStopping; turn += 1) {
      const act = acts[turn % acts.length];
      if (act === undefined) continue;
      const reply = await act.request(system, user).catch((error: unknown) => String(error));
      if (typeof reply !== 'string' && reply.status === act.expected) answered += 1;
      else wrong.push(`${act.name}: ${typeof reply === 'string' ? reply : `${reply.status} ${reply.text}`}`);
      await sleep(pauseMs);
    }
  });
  return {
    users,
    answered: () => answered,
    async more(requests) {
      const enough = answered + requests;
      const giveUpAtMs = performance.now() + moreLimitMs;
      while (answered < enough && performance.now() < giveUpAtMs) await sleep(pauseMs);
    },
    wrong,
    async stop() {
      isStopping = true;
      await Promise.all(loops);
    },
  };
}
