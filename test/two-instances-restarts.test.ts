import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { sealedUnder } from '../src/crypto/secrets.ts';
import { rotateSigningKeys } from '../src/keys/rotation.ts';
import { logIn, openSession, readMe, refresh, registerUser } from './accounts.ts';
import { assertProblem, call } from './client.ts';
import { newSecret } from './config.ts';
import { failStart } from './program.ts';
import { fillCache, listSessions } from './session-endings.ts';
import { assertTakes, waitForSigner } from './twins/exchange.ts';
import { type Load, startLoad } from './twins/load.ts';
import { type Instance, startTwins, type Twins } from './twins/rig.ts';
import { openDeps, reasonForNoTwins } from './twins/surroundings.ts';

type Place = 'one' | 'other';

const [fresh, old] = [newSecret(), newSecret()];
const users = 4;
const places = ['one', 'other'] as const;

// The steps of one rotation of SECRET_KEY, in their order: docs/decisions/0007-rotating-the-secret.md.
describe('two instances that are replaced one by one', { skip: reasonForNoTwins }, () => {
  let twins: Twins;

  before(async () => {
    twins = await startTwins({ SECRET_KEY: old });
    twins.balancer.watch();
  });
  after(() => twins?.close());

  /** Stops an instance and starts another in its place, as an orchestrator does. */
  async function replace(place: Place, secretKeys: readonly string[]): Promise<void> {
    const stopped = twins[place];
    const { code, signal } = await stopped.program.stop('SIGTERM');
    assert.deepEqual([code, signal], [0, null]);
    twins.balancer.remove(stopped.program.origin);
    assertAllAnswered(stopped);
    assert.doesNotMatch(stopped.program.output(), /not made by this service|keys could not be read/);
    twins[place] = await twins.start({ SECRET_KEY: secretKeys.join(',') });
    twins.balancer.add(twins[place].program.origin);
  }

  /** Whatever an instance has carried out must have been answered to the client that had asked for it. */
  function assertAllAnswered({ program, answered }: Instance): void {
    const lines = program.output().match(/^.*"msg":"request".*$/gm) ?? [];
    // What the rig itself asks for.
    const carriedOut = lines.filter((line) => !/"route":"\/(?:health\/|openapi)/.test(line));
    assert.equal(carriedOut.length, answered() + (twins.balancer.answered.get(program.origin) ?? 0));
  }

  /** Lets users be busy during an act, none of whom may meet anything but the proper answer or be logged out. */
  async function underLoad(act: () => Promise<void>): Promise<Load> {
    const load = await startLoad(twins.system, users);
    try {
      await load.more(users * 5);
      await act();
      await load.more(users * 5);
    } finally {
      await load.stop();
    }
    assert.deepEqual(load.wrong, []);
    assert.ok(load.answered() >= users * 10, `only ${load.answered()} requests were made`);
    for (const user of load.users) {
      assert.equal((await readMe(twins.system, user.accessToken)).status, 200);
      assert.equal((await refresh(twins.system, user.refreshToken)).status, 200);
      assert.equal((await logIn(twins.system, user.email, user.password)).status, 200);
    }
    return load;
  }

  test('a rolling restart is noticed by nobody; here it gives all a new SECRET_KEY behind the old one', async (context) => {
    const load = await underLoad(async () => {
      for (const place of places) await replace(place, [old, fresh]);
    });
    const unheard = twins.balancer.unheard();
    context.diagnostic(`of ${load.answered()} requests ${unheard} met a connection that was just closed`);
  });

  test('then each starts with the new one before it, and what one makes is good at the other meanwhile', async () => {
    const early = await registerUser(twins.system);
    const sealed = await sealsOfSigningKeys();
    await underLoad(async () => {
      await replace('one', [fresh, old]);
      const sealedAnew = await sealsOfSigningKeys();
      assert.deepEqual([sealed.length, sealedAnew.length], [1, 1]);
      assert.notEqual(sealedAnew[0], sealed[0], 'the boot has sealed every signing key anew');

      await assertTakes(twins.one, twins.other);
      await assertTakes(twins.other, twins.one);
      for (const instance of [twins.one, twins.other]) {
        assert.equal((await readMe(instance, early.accessToken)).status, 200);
        assert.equal((await logIn(instance, early.email, early.password)).status, 200);
      }
      // The other works with keys that were sealed under the new secret: at a start, and when a rotation tells it to.
      await replace('other', [old, fresh]);
      const rotation = await rotateWith([fresh, old]);
      for (const instance of [twins.one, twins.other]) await waitForSigner(instance, early, rotation?.activated);

      await replace('other', [fresh, old]);
    });
  });

  test('then the old one goes, and whoever has refreshed and logged in since goes on', async () => {
    const user = await registerUser(twins.system);
    await replace('one', [fresh]);
    await assertTakes(twins.one, twins.other);
    await assertTakes(twins.other, twins.one);
    assert.equal((await logIn(twins.one, user.email, user.password)).status, 200);
    assert.equal((await refresh(twins.one, user.refreshToken)).status, 200);
  });

  test('in the other order what one makes is not taken by others, which ends nobody’s session and fails no request', async () => {
    const newest = newSecret();
    const ahead = await twins.start({ SECRET_KEY: `${newest},${fresh}` });
    const user = await registerUser(twins.one);
    const { refreshToken } = await openSession(ahead, user);
    assertProblem(await refresh(twins.one, refreshToken), 'invalid_refresh_token');
    assertProblem(await logIn(twins.one, user.email, user.password), 'invalid_credentials');
    assert.equal((await refresh(ahead, refreshToken)).status, 200, 'it was not taken for a theft');

    // Access tokens are not made with the secret; a cached session that does not open is read from the database.
    await fillCache(ahead, user);
    assert.equal((await call(twins.one, listSessions(user))).status, 200);
    await rotateWith([newest, fresh]);
    const rotation = await rotateWith([newest, fresh]);
    const token = await waitForSigner(ahead, user, rotation?.activated);
    for (const instance of [ahead, twins.one, twins.other]) assert.equal((await readMe(instance, token)).status, 200);
    assert.equal((await refresh(twins.one, user.refreshToken)).status, 200, 'it signs with the key that it has');

    const { code, output } = await failStart({ ...twins.environment, SECRET_KEY: fresh });
    assert.equal(code, 1);
    assert.match(output, /^The signing keys are sealed under a value of SECRET_KEY that is not given: .+\n$/);
  });

  /** Rotates the signing keys on a further instance, and lets the others notice. */
  async function rotateWith(secretKeys: readonly string[]) {
    const environment = { ...twins.environment, SECRET_KEY: secretKeys.join(',') };
    const deps = await openDeps({ ...twins, environment });
    const rotation = await rotateSigningKeys(deps).finally(deps.close);
    twins.clock.advanceSeconds(1);
    return rotation;
  }

  /** The fingerprints of the secrets under which the signing keys are sealed. */
  async function sealsOfSigningKeys(): Promise<unknown[]> {
    const rows = await twins.system.deps.db.selectFrom('signing_keys').select('sealed_private_jwk').execute();
    return [...new Set(rows.map((row) => sealedUnder(row.sealed_private_jwk)))];
  }
});
