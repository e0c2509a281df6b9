import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newEmail, registerUser, subjectsOfMails } from '../../test/accounts.ts';
import { assertRefused, call } from '../../test/client.ts';
import { complete, emailOf, prove } from '../../test/email-change.ts';
import { emailChangeRaces } from '../../test/races/email-changes.ts';
import { testRaces } from '../../test/races/races.ts';
import { describeOnBackends } from '../../test/system.ts';

describeOnBackends('e-mail change', {}, (system) => {
  test('an address registered in between is lost to the change, which is left unchanged', async () => {
    const user = await registerUser(system());
    const email = newEmail();
    const token = await prove(system(), user, email);
    system().clock.advanceSeconds(61);
    const owner = await registerUser(system(), { email });
    await assertRefused(system(), complete(user, token), 'account_exists');
    assert.equal(await emailOf(system(), user), user.email);
    assert.equal(await emailOf(system(), owner), email);
    assert.deepEqual(await subjectsOfMails(system(), user.email).then((all) => all.slice(0, -1)), []);
  });

  test('of two users who change to one address the one who proved it last gets it', async () => {
    const email = newEmail();
    const [first, second] = [await registerUser(system()), await registerUser(system())];
    const firstProof = await prove(system(), first, email);
    system().clock.advanceSeconds(61);
    const secondProof = await prove(system(), second, email);
    await assertRefused(system(), complete(first, firstProof), 'invalid_verification_token');
    assert.equal((await call(system(), complete(second, secondProof))).body.email, email);
    assert.equal(await emailOf(system(), first), first.email);
  });

  testRaces(emailChangeRaces, system);
});
