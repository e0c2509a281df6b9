import assert from 'node:assert/strict';
import { failToLogIn, isUsable, logIn, logOut, presentOldToken, refresh, type UsableSession } from './deeds.ts';
import { type HeldSession, type Ledger, type Person, perform } from './ledger.ts';
import { createRandom, type Random } from './random.ts';

// Well under the grace that the program is given, so that a slow machine does not come near its end.
const surelyInGraceMs = 200_000;

/**
 * Asks the program itself about everything that was acknowledged: who has an account can log in and is who they were,
 * what lived lives, and what has ended or been replaced stays so. What this does is booked like any other act.
 */
export async function inspect(ledger: Ledger): Promise<void> {
  const { persons, sessions } = ledger.ended;
  ledger.ended = { persons: [], sessions: [] };
  await Promise.all([
    ...ledger.persons.filter((person) => person !== undefined).map((person) => inspectPerson(ledger, person)),
    ...persons.map((person) => inspectDeleted(ledger, person)),
    ...sessions.map((session) => inspectEnded(ledger, session)),
  ]);
}

async function inspectPerson(ledger: Ledger, person: Person): Promise<void> {
  const random = createRandom(ledger.random.below(2 ** 32));
  for (const session of person.sessions.filter(isUsable)) {
    await assertAlive(ledger, person, session);
    // The reply of its last refresh was lost: the token that the client has gives the successor all the same.
    if (session.generation === session.refreshTokens.length) await refresh(ledger, session);
    await assertSameSuccessor(ledger, session);
  }
  if (person.formerPassword !== undefined) await failToLogIn(ledger, person);
  await inspectLogin(ledger, person, random);
  const old = person.sessions.find(({ refreshTokens }) => refreshTokens.length > 2);
  if (old !== undefined && random.below(2) === 0) {
    await presentOldToken(ledger, person, old, random.below(old.refreshTokens.length - 2));
    await inspectEnded(ledger, old);
  }
}

async function assertAlive(ledger: Ledger, person: Person, session: UsableSession): Promise<void> {
  const { accessToken: token, device } = session;
  const { body } = await perform(ledger, { method: 'GET', path: '/users/me', token, device, status: 200 });
  const told = { id: person.id, email: person.email, name: person.profile, metadata: { profile: person.profile } };
  const { id, email, name, metadata } = body;
  assert.deepEqual({ id, email, name, metadata }, told);
}

/** The token just replaced gets the successor that it got, so it stayed replaced. */
async function assertSameSuccessor(ledger: Ledger, session: HeldSession): Promise<void> {
  const [replaced, newest] = session.refreshTokens.slice(-2);
  if (newest === undefined || performance.now() > session.rotatedAtMs + surelyInGraceMs) return;
  const { body } = await presentRefreshToken(ledger, session, replaced, 200);
  assert.equal(body.refresh_token, newest, 'the token just replaced has another successor now');
}

async function inspectLogin(ledger: Ledger, person: Person, random: Random): Promise<void> {
  const before = new Set(person.sessions);
  await logIn(ledger, person, random);
  const opened = person.sessions.filter(isUsable).find((session) => !before.has(session));
  if (opened === undefined || random.below(2) === 0) return;
  await logOut(ledger, person, opened, random);
  await inspectEnded(ledger, opened);
}

/** A session that has ended has no living token, of whatever generation. */
async function inspectEnded(ledger: Ledger, session: HeldSession): Promise<void> {
  const { accessToken: token, device } = session;
  const code = 'invalid_refresh_token';
  for (const old of session.refreshTokens.slice(-2)) await presentRefreshToken(ledger, session, old, 401, code);
  if (token === undefined) return;
  const refused = { device, status: 401, code: 'invalid_token' };
  await perform(ledger, { method: 'GET', path: '/users/me', token, ...refused });
}

/** A deleted account has no login and no session. */
async function inspectDeleted(ledger: Ledger, { email, password, sessions }: Person): Promise<void> {
  await perform(ledger, {
    method: 'POST',
    path: '/auth/login',
    body: { email, password },
    device: 0,
    status: 401,
    code: 'invalid_credentials',
    event: 'login.failed',
  });
  for (const session of sessions) await inspectEnded(ledger, session);
}

function presentRefreshToken(
  ledger: Ledger,
  { device }: HeldSession,
  refresh_token: string | undefined,
  status: number,
  code?: string,
) {
  return perform(ledger, {
    method: 'POST',
    path: '/auth/refresh',
    body: { refresh_token },
    device,
    status,
    ...(code === undefined ? {} : { code }),
  });
}
