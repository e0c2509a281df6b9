import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createLocalJWKSet, decodeProtectedHeader, jwtVerify } from 'jose';
import { logIn, readMe, refresh, registerUser } from '../../test/accounts.ts';
import { assertProblem, call } from '../../test/client.ts';
import { newSecret } from '../../test/config.ts';
import { describeOnBackends, digestRows, type System, startPeer } from '../../test/system.ts';
import { newId } from '../crypto/ids.ts';
import { revokeSigningKey } from './revocation.ts';
import { rotateSigningKeys } from './rotation.ts';

const operator = 'ada';

describeOnBackends('revocation of a signing key', {}, (system) => {
  let peer: System;
  before(async () => {
    peer = await startPeer(system());
  });
  after(() => peer?.close());

  const readKeys = () => system().deps.db.selectFrom('signing_keys').selectAll().orderBy('state').execute();
  const readEvents = () =>
    system().deps.db.selectFrom('audit_events').selectAll().where('type', '=', 'keys.revoked').execute();
  const kidOf = (token: string) => decodeProtectedHeader(token).kid ?? '';
  const readJwks = (of: System) => call(of, { method: 'GET', path: '/.well-known/jwks.json' });

  test('tokens of the revoked active key are refused here at once, and on another instance within a second', async () => {
    const user = await registerUser(system());
    for (const instance of [system(), peer]) assert.equal((await readMe(instance, user.accessToken)).status, 200);
    const kid = kidOf(user.accessToken);
    const next = (await readKeys()).find(({ state }) => state === 'next')?.kid;
    const revocation = await revokeSigningKey(system().deps, kid, operator);
    assert.deepEqual(revocation, { revoked: kid, state: 'active', activated: next, next: revocation?.next });
    assertProblem(await readMe(system(), user.accessToken), 'invalid_token');
    system().clock.advanceSeconds(1);
    // Its very first request, though nothing has told it and it had read the token before.
    assertProblem(await readMe(peer, user.accessToken), 'invalid_token');
    assert.ok(!(await readKeys()).some((key) => key.kid === kid), 'the private part is gone too');
  });

  test('sessions live on: a refresh gives a token of the key that took its place, valid everywhere', async () => {
    const user = await registerUser(system());
    const revocation = await revokeSigningKey(system().deps, kidOf(user.accessToken), operator);
    system().clock.advanceSeconds(1);
    const { status, body } = await refresh(peer, user.refreshToken);
    assert.equal(status, 200);
    assert.equal(kidOf(body.access_token), revocation?.activated);
    for (const instance of [system(), peer]) assert.equal((await readMe(instance, body.access_token)).status, 200);
  });

  test('the JWKS of every instance lacks the key, so others refuse its tokens when they fetch it next', async () => {
    const user = await registerUser(system());
    const kid = kidOf(user.accessToken);
    await revokeSigningKey(system().deps, kid, operator);
    system().clock.advanceSeconds(1);
    for (const instance of [system(), peer]) {
      const { body } = await readJwks(instance);
      assert.ok(!body.keys.some((key: { kid: string }) => key.kid === kid));
      assert.equal(body.keys.length, (await readKeys()).length);
      const currentDate = new Date(system().clock.now());
      await assert.rejects(jwtVerify(user.accessToken, createLocalJWKSet(body), { currentDate }), /no applicable key/);
    }
  });

  test('a next key is replaced and a retired one removed; the active key stays', async () => {
    await rotateSigningKeys(system().deps);
    const user = await registerUser(system());
    const [active, next, retired] = await readKeys();
    const ofNext = await revokeSigningKey(system().deps, next?.kid ?? '', operator);
    assert.deepEqual(ofNext, { revoked: next?.kid, state: 'next', next: ofNext?.next });
    const ofRetired = await revokeSigningKey(system().deps, retired?.kid ?? '', operator);
    assert.deepEqual(ofRetired, { revoked: retired?.kid, state: 'retired' });
    const left = (await readKeys()).map(({ kid, state }) => [state, kid]);
    assert.deepEqual(left.slice(0, 2), [
      ['active', active?.kid],
      ['next', ofNext?.next],
    ]);
    assert.equal((await readMe(system(), user.accessToken)).status, 200);
  });

  test('is recorded with the keys and the operator; an unknown key changes nothing', async () => {
    const before = await readEvents();
    const digest = [await digestRows(system()), await readKeys()];
    assert.equal(await revokeSigningKey(system().deps, newId(), operator), undefined);
    assert.deepEqual([await digestRows(system()), await readKeys()], digest);
    assert.equal((await readEvents()).length, before.length);
    const { kid } = system().deps.signingKeys.active();
    const revocation = await revokeSigningKey(system().deps, kid, operator);
    const [event] = (await readEvents()).slice(-1);
    assert.deepEqual(JSON.parse(event?.details ?? ''), { ...revocation, operator });
    assert.deepEqual([event?.user_id, event?.actor_id], [null, null]);
  });

  test('revocations and rotations at once leave one active and one next key, and no revoked one', async () => {
    for (let round = 0; round < 3; round += 1) {
      const keys = await readKeys();
      const revoked = keys.filter(({ state }) => state !== 'retired').map(({ kid }) => kid);
      await Promise.all([
        ...revoked.flatMap((kid) => [system(), peer].map(({ deps }) => revokeSigningKey(deps, kid, operator))),
        ...[system(), peer].map(({ deps }) => rotateSigningKeys(deps)),
      ]);
      const left = await readKeys();
      assert.deepEqual(left.map(({ state }) => state).slice(0, 2), ['active', 'next']);
      assert.equal(left.filter(({ state }) => state !== 'retired').length, 2);
      assert.deepEqual(
        left.filter(({ kid }) => revoked.includes(kid)),
        [],
      );
    }
    // What the other instance did last is known here within a second, and until then this one may sign with a key that
    // is gone.
    system().clock.advanceSeconds(1);
    const user = await registerUser(system());
    system().clock.advanceSeconds(1);
    assert.equal((await readMe(peer, user.accessToken)).status, 200);
  });

  test('keys that are a second old are read before they are used, and then nobody waits', async () => {
    const user = await registerUser(peer);
    const { kid } = peer.deps.signingKeys.active();
    await rotateSigningKeys(system().deps);
    system().clock.advanceSeconds(1);
    await Promise.all(Array.from({ length: 20 }, () => readMe(peer, user.accessToken)));
    assert.notEqual(peer.deps.signingKeys.active().kid, kid);
    assert.equal(peer.deps.signingKeys.freshen(), undefined, 'nobody waits for keys that were just read');
  });

  test('an instance that cannot open the new active key refuses the revoked one all the same, and signs nothing', async (context) => {
    const { deps } = system();
    const secretKeys = [newSecret(), ...deps.config.secretKeys] as const;
    const ahead = await startPeer({ ...system(), deps: { ...deps, config: { ...deps.config, secretKeys } } });
    context.after(() => ahead.close());
    // Both keys are then sealed under the secret that only the one ahead has.
    await rotateSigningKeys(ahead.deps);
    await rotateSigningKeys(ahead.deps);
    const user = await registerUser(system());
    const kid = kidOf(user.accessToken);
    system().clock.advanceSeconds(1);
    const behind = await logIn(system(), user.email, user.password);
    assert.notEqual(kidOf(behind.body.access_token), ahead.deps.signingKeys.active().kid, 'it is behind');
    await revokeSigningKey(ahead.deps, kid, operator);
    system().clock.advanceSeconds(1);
    assertProblem(await readMe(system(), user.accessToken), 'invalid_token');
    assertProblem(await logIn(system(), user.email, user.password), 'temporarily_unavailable');
    const { body } = await refresh(ahead, user.refreshToken);
    assert.equal((await readMe(system(), body.access_token)).status, 200);
  });
});
