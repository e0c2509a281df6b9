import assert from 'node:assert/strict';
import type { Maintenance } from '../src/maintenance/flow.ts';
import { logIn, refresh, type TestUser } from './accounts.ts';
import { call, type Reply } from './client.ts';
import type { System } from './system.ts';

/* The rules of sessions as a model of plain values. A step is played on the model and on the system at once. */

export const sessionsPerUser = 3;
const graceMs = 30_000;
export const idleMs = 7 * 24 * 60 * 60 * 1000;
// A third of the usual, so that a history of thirty steps reaches it.
export const absoluteMs = 10 * 24 * 60 * 60 * 1000;
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
export type ModelUser = { account: TestUser; password: string; isDeleted: boolean; sessions: ModelSession[] };
export type World = { system: System; maintenance: Maintenance; users: ModelUser[] };

/** Numbers choose among what there is when the step is played, so that shrinking keeps a history playable. */
export type Step =
  | { kind: 'login'; user: number }
  | { kind: 'refresh'; user: number; session: number; age: number }
  | { kind: 'logoutByRefresh'; user: number; session: number; age: number }
  | { kind: 'logoutByAccess'; user: number; session: number; age: number }
  | { kind: 'changePassword' | 'endOthers' | 'reauthenticate' | 'delete'; user: number; session: number; age: number }
  | { kind: 'endOne'; user: number; session: number; age: number; target: number }
  | { kind: 'wait'; seconds: number }
  | { kind: 'sweep' };

export function isLive(model: World, owner: ModelUser, candidate: ModelSession): boolean {
  const now = model.system.clock.now();
  return (
    !owner.isDeleted &&
    !candidate.hasEnded &&
    now < Math.min(candidate.idleExpiresAtMs, candidate.openedAtMs + absoluteMs)
  );
}

export function liveSessions(model: World, owner: ModelUser): ModelSession[] {
  return owner.sessions.filter((candidate) => isLive(model, owner, candidate));
}

export function hasExpired(model: World, { expiresAtSeconds }: AccessToken): boolean {
  return expiresAtSeconds <= Math.floor(model.system.clock.now() / 1000);
}

/** The token that is this many issues older than the newest; the oldest where there are not so many. */
function pickByAge<T>(tokens: readonly T[], tokenAge: number): T {
  const token = tokens[Math.max(0, tokens.length - 1 - tokenAge)];
  if (token === undefined) throw new Error('a session has at least the tokens that it was opened with');
  return token;
}

export function assertAnswer(reply: Reply, expected: string | number, what: string): void {
  const answer = reply.status < 300 ? reply.status : reply.body.code;
  assert.equal(answer, expected, `${what}: ${reply.text}`);
}

function noteIssued(model: World, target: ModelSession, tokens: Reply['body']): void {
  const expiresAtSeconds = Math.floor(model.system.clock.now() / 1000) + accessTokenSeconds;
  target.accessTokens.push({ token: tokens.access_token, expiresAtSeconds });
  const leftSeconds = Math.round((target.idleExpiresAtMs - model.system.clock.now()) / 1000);
  assert.equal(tokens.refresh_token_expires_in, leftSeconds, 'how long the refresh token lasts');
}

export function noteOpened(model: World, owner: ModelUser, tokens: Reply['body']): void {
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

export async function playRefresh(model: World, owner: ModelUser, target: ModelSession, token: string): Promise<void> {
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

export async function play(model: World, move: Step): Promise<void> {
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
