import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  goodPassword,
  newEmail,
  newestMail,
  proveAddress,
  readMe,
  registerUser,
  sendCode,
} from '../../test/accounts.ts';
import { assertRefused, call } from '../../test/client.ts';
import { describeOnBackends } from '../../test/system.ts';

describeOnBackends('registration', {}, (system) => {
  test('a proved address and a password make an account that is logged in', async () => {
    const email = newEmail();
    const verification_token = await proveAddress(system(), email, 'registration');
    const reply = await call(system(), {
      method: 'POST',
      path: '/auth/register',
      body: { verification_token, password: goodPassword, name: 'Ada', locale: 'PT-br', metadata: { plan: 'free' } },
    });
    assert.equal(reply.status, 201);
    assert.equal(reply.headers.location, '/users/me');
    assert.equal(reply.headers['cache-control'], 'no-store');
    const { user, ...tokens } = reply.body;
    assert.deepEqual(
      { ...user, id: '', created_at: '', updated_at: '', last_login_at: '' },
      {
        id: '',
        email,
        name: 'Ada',
        locale: 'pt-BR',
        metadata: { plan: 'free' },
        status: 'active',
        roles: ['user'],
        created_at: '',
        updated_at: '',
        last_login_at: '',
      },
    );
    assert.equal(tokens.token_type, 'Bearer');
    assert.equal(tokens.expires_in, 1800);
    assert.equal(tokens.refresh_token_expires_in, 604_800);
    const me = await readMe(system(), tokens.access_token);
    assert.deepEqual(me.body, user);
  });
});

void [assertRefused, newestMail, registerUser, sendCode];
