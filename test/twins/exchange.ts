import assert from 'node:assert/strict';
import { decodeProtectedHeader } from 'jose';
import {
  goodPassword,
  logIn,
  newEmail,
  obtainCode,
  openSession,
  readMe,
  refresh,
  subjectsOfMails,
  type TestUser,
} from '../accounts.ts';
import { call } from '../client.ts';
import { fillCache, listSessions, sessionId } from '../session-endings.ts';
import type { System } from '../system.ts';

const signerLimitMs = 2_000;
// Well under the life of an entry.
const cacheLimitMs = 5_000;

/** Shows that one instance takes what another makes: codes, proofs, passwords, tokens, cached sessions and devices. */
export async function assertTakes(taker: System, maker: System): Promise<void> {
  const email = newEmail();
  const code = await obtainCode(maker, email, 'registration');
  const typed = { email, purpose: 'registration', code };
  const proof = await call(taker, { method: 'POST', path: '/auth/verify-code', body: typed });
  assert.equal(proof.status, 200, 'its codes');
  const account = { verification_token: proof.body.verification_token, password: goodPassword };
  const registered = await call(maker, { method: 'POST', path: '/auth/register', body: account });
  assert.equal(registered.status, 201, 'proofs that were made of them');
  const { user, access_token: accessToken, refresh_token: refreshToken } = registered.body;
  assert.equal((await readMe(taker, accessToken)).status, 200, 'its access tokens');
  const refreshed = await refresh(taker, refreshToken);
  assert.equal(refreshed.status, 200, 'its refresh tokens');
  assert.equal((await refresh(maker, refreshed.body.refresh_token)).status, 200, 'and their successors, back again');
  assert.equal((await logIn(taker, email, goodPassword)).status, 200, 'its passwords');
  const cached: TestUser = { id: user.id, email, password: goodPassword, accessToken, refreshToken };
  await assertServesCached(taker, maker, cached);
  assert.deepEqual((await subjectsOfMails(taker, email)).length, 1, 'its devices: there is no notice of a new one');
}

/** Shows that one instance serves a session from what another has put into the cache. */
export async function assertServesCached(taker: System, maker: System, user: TestUser): Promise<void> {
  await fillCache(maker, user);
  // Behind the service's back, so that only the cache can still know the session.
  await maker.deps.db.deleteFrom('sessions').where('id', '=', sessionId(user)).execute();
  const giveUpAtMs = performance.now() + cacheLimitMs;
  // A busy machine may take longer for a look-up than the guard waits for it.
  while ((await call(taker, listSessions(user))).status !== 200) {
    assert.ok(performance.now() < giveUpAtMs, 'it does not serve what the other has cached');
  }
}

/** Waits until an instance signs with this key, and returns a token that it signed. */
export async function waitForSigner(instance: System, user: TestUser, kid: string | undefined): Promise<string> {
  const giveUpAtMs = performance.now() + signerLimitMs;
  for (let { refreshToken } = await openSession(instance, user); ; ) {
    const { body } = await refresh(instance, refreshToken);
    if (decodeProtectedHeader(body.access_token).kid === kid) return body.access_token;
    assert.ok(performance.now() < giveUpAtMs, 'it goes on signing with the key before');
    refreshToken = body.refresh_token;
  }
}
