import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createMaintenance, type Maintenance } from '../src/maintenance/flow.ts';
import { logIn, readMe, refresh, registerUser, type TestUser } from './accounts.ts';
import { call, type Reply } from './client.ts';
import { describeOnBackends, type System } from './system.ts';

/*
 * The rules of sessions as a model of plain values, and random histories that are played on the model and on
 * the system at once. After every step both must agree on every session that is alive, and on the answer
 * to every token ever issued, old or new. Set PROPERTY_RUNS for more histories than the usual ones.
 */

const usersInPlay = 2;
const sessionsPerUser = 3;
const graceMs = 30_000;
const idleMs = 7 * 24 * 60 * 60 * 1000;
// A third of the usual, so that a history of thirty steps reaches it.
const absoluteMs = 10 * 24 * 60 * 60 * 1000;
const accessTokenSeconds = 1800;
const recentMs = 300_000;

type AccessToken = { token: string; expiresAtSeconds: number };
type ModelSession = {
  id: string;
  hasEnded: boolean;
  /** One for each generation; the last is the live one. */
  refreshTokens: string[];
  accessTokens: AccessToken[];
  openedAtMs: number;
  rotatedAtMs: number;
  authenticatedAtMs: number;
  idleExpiresAtMs: number;
};
type ModelUser = { account: TestUser; password: string; isDeleted: boolean; sessions: ModelSession[] };
type World = { system: System; maintenance: Maintenance; users: ModelUser[] };

/** Numbers choose among what there is when the step is played, so that shrinking keeps a history playable. */
type Step =
  | { kind: 'login'; user: number }
  | { kind: 'refresh'; user: number; session: number; age: number }
  | { kind: 'logoutByRefresh'; user: number; session: number; age: number }
  | { kind: 'logoutByAccess'; user: number; session: number; age: number }
  | { kind: 'changePassword' | 'endOthers' | 'reauthenticate' | 'delete'; user: number; session: number; age: number }
  | { kind: 'endOne'; user: number; session: number; age: number; target: number }
  | { kind: 'wait'; seconds: number }
  | { kind: 'sweep' };

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

function isLive(model: World, owner: ModelUser, candidate: ModelSession): boolean {
  const now = model.system.clock.now();
  return (
    !owner.isDeleted &&
    !candidate.hasEnded &&
    now < Math.min(candidate.idleExpiresAtMs, candidate.openedAtMs + absoluteMs)
  );
}

function liveSessions(model: World, owner: ModelUser): ModelSession[] {
  return owner.sessions.filter((candidate) => isLive(model, owner, candidate));
}

function hasExpired(model: World, { expiresAtSeconds }: AccessToken): boolean {
  return expiresAtSeconds <= Math.floor(model.system.clock.now() / 1000);
}

/** The token that is this many issues older than the newest; the oldest where there are not so many. */
function pickByAge<T>(tokens: readonly T[], tokenAge: number): T {
  const token = tokens[Math.max(0, tokens.length - 1 - tokenAge)];
  if (token === undefined) throw new Error('a session has at least the tokens that it was opened with');
  return token;
}

function assertAnswer(reply: Reply, expected: string | number, what: string): void {
  const answer = reply.status < 300 ? reply.status : reply.body.code;
  assert.equal(answer, expected, `${what}: ${reply.text}`);
}

function noteIssued(model: World, target: ModelSession, tokens: Reply['body']): void {
  const expiresAtSeconds = Math.floor(model.system.clock.now() / 1000) + accessTokenSeconds;
  target.accessTokens.push({ token: tokens.access_token, expiresAtSeconds });
  const leftSeconds = Math.round((target.idleExpiresAtMs - model.system.clock.now()) / 1000);
  assert.equal(tokens.refresh_token_expires_in, leftSeconds, 'how long the refresh token lasts');
}

function noteOpened(model: World, owner: ModelUser, tokens: Reply['body']): void {
  const now = model.system.clock.now();
  const opened: ModelSession = {
    id: String(tokens.refresh_token).split('.')[1] ?? '',
    hasEnded: false,
    refreshTokens: [tokens.refresh_token],
    accessTokens: [],
    openedAtMs: now,
    rotatedAtMs: now,
    authenticatedAtMs: now,
    idleExpiresAtMs: now + idleMs,
  };
  noteIssued(model, opened, tokens);
  owner.sessions.push(opened);
  for (const oldest of liveSessions(model, owner).slice(0, -sessionsPerUser)) oldest.hasEnded = true;
}

/** What the process does every minute: what has expired goes, and nothing else may. */
async function sweep({ maintenance }: World): Promise<void> {
  assert.notEqual(await maintenance.runOnce(), undefined, 'nobody else holds the lease');
}

async function playLogin(model: World, owner: ModelUser): Promise<void> {
  // The cap counts rows, so one that has expired must not have kept its place.
  await sweep(model);
  // The cap ends the oldest; no two are of the same millisecond, so that it is clear which that is.
  model.system.clock.advanceSeconds(0.001);
  const reply = await logIn(model.system, owner.account.email, owner.password);
  assertAnswer(reply, owner.isDeleted ? 'invalid_credentials' : 200, 'login');
  if (reply.status === 200) noteOpened(model, owner, reply.body);
}

async function playRefresh(model: World, owner: ModelUser, target: ModelSession, token: string): Promise<void> {
  const now = model.system.clock.now();
  const generation = target.refreshTokens.indexOf(token);
  const newest = target.refreshTokens.length - 1;
  const reply = await refresh(model.system, token);
  if (!isLive(model, owner, target)) {
    assertAnswer(reply, 'invalid_refresh_token', 'refresh of a session that is over');
    return;
  }
  if (generation === newest) {
    assertAnswer(reply, 200, 'refresh with the live token');
    assert.ok(!target.refreshTokens.includes(reply.body.refresh_token), 'a rotation gives a token never seen before');
    target.refreshTokens.push(reply.body.refresh_token);
    target.rotatedAtMs = now;
    target.idleExpiresAtMs = Math.min(now + idleMs, target.openedAtMs + absoluteMs);
    noteIssued(model, target, reply.body);
  } else if (generation === newest - 1 && now < target.rotatedAtMs + graceMs) {
    assertAnswer(reply, 200, 'refresh with the token just replaced');
    assert.equal(reply.body.refresh_token, target.refreshTokens[newest], 'the same successor again');
    noteIssued(model, target, reply.body);
  } else {
    assertAnswer(reply, 'refresh_token_reused', 'refresh with an old token');
    target.hasEnded = true;
  }
}

async function playLogout(
  model: World,
  target: ModelSession,
  by: Extract<Step, { kind: `logout${string}` }>,
): Promise<void> {
  if (by.kind === 'logoutByRefresh') {
    const body = { refresh_token: pickByAge(target.refreshTokens, by.age) };
    assertAnswer(
      await call(model.system, { method: 'POST', path: '/auth/logout', body }),
      204,
      'logout by refresh token',
    );
    target.hasEnded = true;
    return;
  }
  const access = pickByAge(target.accessTokens, by.age);
  const reply = await call(model.system, { method: 'POST', path: '/auth/logout', token: access.token });
  assertAnswer(reply, hasExpired(model, access) ? 'invalid_token' : 204, 'logout by access token');
  if (!hasExpired(model, access)) target.hasEnded = true;
}

type ActStep = Extract<Step, { kind: 'changePassword' | 'endOthers' | 'reauthenticate' | 'delete' | 'endOne' }>;

/** What a user does with an access token; a dead one does nothing. */
async function playAct(model: World, owner: ModelUser, target: ModelSession, act: ActStep): Promise<void> {
  const access = pickByAge(target.accessTokens, act.age);
  const { system } = model;
  const isAllowed = isLive(model, owner, target) && !hasExpired(model, access);
  const { token } = access;
  const others = owner.sessions.filter((candidate) => candidate !== target);
  const now = system.clock.now();
  if (act.kind === 'changePassword') {
    const body = { current_password: owner.password, new_password: `${owner.password.slice(0, 30)} ${now}` };
    const reply = await call(system, { method: 'PUT', path: '/users/me/password', token, body });
    assertAnswer(reply, isAllowed ? 204 : 'invalid_token', 'password change');
    if (!isAllowed) return;
    owner.password = body.new_password;
    for (const other of others) other.hasEnded = true;
  } else if (act.kind === 'endOthers') {
    const reply = await call(system, { method: 'DELETE', path: '/users/me/sessions', token });
    assertAnswer(reply, isAllowed ? 204 : 'invalid_token', 'ending all others');
    if (isAllowed) for (const other of others) other.hasEnded = true;
  } else if (act.kind === 'endOne') {
    const victim = pickByAge(owner.sessions, act.target);
    const reply = await call(system, { method: 'DELETE', path: `/users/me/sessions/${victim.id}`, token });
    if (!isAllowed) return assertAnswer(reply, 'invalid_token', 'ending one');
    assertAnswer(reply, isLive(model, owner, victim) ? 204 : 'not_found', 'ending one');
    victim.hasEnded = true;
  } else if (act.kind === 'reauthenticate') {
    const body = { password: owner.password };
    const reply = await call(system, { method: 'POST', path: '/auth/reauthenticate', token, body });
    assertAnswer(reply, isAllowed ? 204 : 'invalid_token', 're-authentication');
    if (isAllowed) target.authenticatedAtMs = now;
  } else {
    const isRecent = now - target.authenticatedAtMs <= recentMs;
    const reply = await call(system, { method: 'DELETE', path: '/users/me', token });
    const refusal = isAllowed ? 'insufficient_user_authentication' : 'invalid_token';
    assertAnswer(reply, isAllowed && isRecent ? 204 : refusal, 'deletion');
    if (isAllowed && isRecent) owner.isDeleted = true;
  }
}

async function play(model: World, move: Step): Promise<void> {
  if (move.kind === 'wait') return model.system.clock.advanceSeconds(move.seconds);
  if (move.kind === 'sweep') return sweep(model);
  const owner = model.users[move.user];
  if (owner === undefined) throw new Error('there is no such user');
  if (move.kind === 'login') return playLogin(model, owner);
  const target = pickByAge(owner.sessions, move.session);
  if (move.kind === 'refresh') return playRefresh(model, owner, target, pickByAge(target.refreshTokens, move.age));
  if (move.kind === 'logoutByRefresh' || move.kind === 'logoutByAccess') return playLogout(model, target, move);
  return playAct(model, owner, target, move);
}

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
  const numRuns = Number(process.env.PROPERTY_RUNS ?? (backend === 'sqlite+memory' ? 150 : 40));

  test('no history leaves a token usable that is dead by the rules, or kills one that is alive', async () => {
    const maintenance = createMaintenance(system().deps);
    const history = fc.array(step, { minLength: 1, maxLength: 30, size: 'max' });
    await fc.assert(
      fc.asyncProperty(history, (steps) => playHistory(system(), maintenance, steps)),
      { numRuns },
    );
  });
});
