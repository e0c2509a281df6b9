import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createLocalJWKSet, decodeProtectedHeader, jwtVerify } from 'jose';
import { logIn, readMe, refresh, registerUser } from '../../test/accounts.ts';
import { assertProblem, call } from '../../test/client.ts';
import { newSecret } from '../../test/config.ts';
import { describeOnBackends, type System, startPeer } from '../../test/system.ts';
import { createMaintenance } from '../maintenance/flow.ts';
import { rotateSigningKeys } from './rotation.ts';

const daySeconds = 86_400;

describeOnBackends('rotation of the signing keys', {}, (system) => {
  let peer: System;
  before(async () => {
    peer = await startPeer(system());
  });
  after(() => peer?.close());

  const stateOf = async (kid: string) => (await readKeys(system())).find((key) => key.kid === kid)?.state;

  test('the next key signs, the active one retires and goes on verifying, and a new next one is shown', async () => {
    const user = await registerUser(system());
    const before = await readKeys(system());
    const [active, next] = ['active', 'next'].map((state) => before.find((key) => key.state === state)?.kid);
    const rotation = await rotateSigningKeys(system().deps);
    assert.deepEqual([rotation?.retired, rotation?.activated], [active, next]);
    assert.equal((await readMe(system(), user.accessToken)).status, 200);
    const { body } = await logIn(system(), user.email, user.password);
    assert.equal(decodeProtectedHeader(body.access_token).kid, next);
    const shown = await call(system(), { method: 'GET', path: '/.well-known/jwks.json' });
    assert.deepEqual(
      shown.body.keys.map((key: { kid: string }) => key.kid).sort(),
      [...before.map(({ kid }) => kid), rotation?.next].sort(),
    );
    for (const token of [user.accessToken, body.access_token]) {
      await jwtVerify(token, createLocalJWKSet(shown.body), { currentDate: new Date(system().clock.now()) });
    }
    const events = await system()
      .deps.db.selectFrom('audit_events')
      .selectAll()
      .where('type', '=', 'keys.rotated')
      .execute();
    assert.deepEqual(
      events.map(({ details }) => JSON.parse(details)),
      [{ ...rotation, operator: '' }],
    );
  });

  test('what one instance signs after two rotations in a row, the other verifies at once', async () => {
    const user = await registerUser(system());
    await rotateSigningKeys(system().deps);
    await rotateSigningKeys(system().deps);
    const { body } = await logIn(system(), user.email, user.password);
    assert.equal((await readMe(peer, body.access_token)).status, 200);
    assert.equal((await readMe(peer, user.accessToken)).status, 200);
  });

  test('the other instance signs with the new key within a second of its own time', async () => {
    const user = await registerUser(system());
    const rotation = await rotateSigningKeys(system().deps);
    system().clock.advanceSeconds(1);
    const { body } = await logIn(peer, user.email, user.password);
    assert.equal(decodeProtectedHeader(body.access_token).kid, rotation?.activated);
    assert.equal((await readMe(system(), body.access_token)).status, 200);
  });

  test('two rotations at once make one, and leave one key of each state', async () => {
    const rotateTogether = () =>
      Promise.all([system(), peer, peer].map(({ deps }) => rotateSigningKeys(deps, { olderThanMs: 1 })));
    await rotateSigningKeys(system().deps);
    assert.deepEqual(await rotateTogether(), [undefined, undefined, undefined], 'the active key is too young');
    system().clock.advanceSeconds(1);
    const parallel = await rotateTogether();
    assert.equal(parallel.filter((rotation) => rotation !== undefined).length, 1);
    const states = (await readKeys(system())).map(({ state }) => state).filter((state) => state !== 'retired');
    assert.deepEqual(states.sort(), ['active', 'next']);
  });

  test('a token of a key that was removed is refused on every instance that has read the keys since', async () => {
    const user = await registerUser(system());
    await rotateSigningKeys(system().deps);
    for (const instance of [system(), peer]) assert.equal((await readMe(instance, user.accessToken)).status, 200);
    const { kid = '' } = decodeProtectedHeader(user.accessToken);
    await system().deps.db.deleteFrom('signing_keys').where('kid', '=', kid).execute();
    await Promise.all([system(), peer].map(({ deps }) => deps.signingKeys.reload()));
    for (const instance of [system(), peer]) {
      assertProblem(await readMe(instance, user.accessToken), 'invalid_token');
    }
  });

  test('keys are rotated by age, and a retired one goes only after its last token', async () => {
    const { deps, clock } = system();
    const maintenance = createMaintenance(deps);
    const { SIGNING_KEY_MAX_AGE_SECONDS, ACCESS_TOKEN_TTL_SECONDS } = deps.config.environment;
    await rotateSigningKeys(deps);
    const { kid } = deps.signingKeys.active();
    clock.advanceSeconds(SIGNING_KEY_MAX_AGE_SECONDS - daySeconds);
    await maintenance.runOnce();
    assert.equal(await stateOf(kid), 'active');
    clock.advanceSeconds(daySeconds);
    await maintenance.runOnce();
    assert.equal(await stateOf(kid), 'retired');
    clock.advanceSeconds(ACCESS_TOKEN_TTL_SECONDS + 59);
    await maintenance.runOnce();
    assert.equal(await stateOf(kid), 'retired');
    clock.advanceSeconds(1);
    await maintenance.runOnce();
    assert.equal(await stateOf(kid), undefined);
  });

  test('an instance without the newer SECRET_KEY verifies what the others sign, and signs with the key before', async (context) => {
    const { deps } = system();
    const secretKeys = [newSecret(), ...deps.config.secretKeys] as const;
    const ahead = await startPeer({ ...system(), deps: { ...deps, config: { ...deps.config, secretKeys } } });
    context.after(() => ahead.close());
    const user = await registerUser(system());
    const { kid } = decodeProtectedHeader(user.accessToken);
    await rotateSigningKeys(ahead.deps);
    await rotateSigningKeys(ahead.deps);
    const { body } = await logIn(ahead, user.email, user.password);
    assert.equal((await readMe(system(), body.access_token)).status, 200);
    const behind = await refresh(system(), user.refreshToken);
    assert.equal(decodeProtectedHeader(behind.body.access_token).kid, kid);
    for (const instance of [system(), ahead]) {
      assert.equal((await readMe(instance, behind.body.access_token)).status, 200);
    }
    const shown = await call(system(), { method: 'GET', path: '/.well-known/jwks.json' });
    assert.equal(shown.body.keys.length, (await readKeys(system())).length);
  });
});

function readKeys({ deps }: System) {
  return deps.db.selectFrom('signing_keys').selectAll().execute();
}
