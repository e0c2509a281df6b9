import assert from 'node:assert/strict';
import { test } from 'node:test';
import { goodPassword, logIn, newEmail, proveAddress, registerUser } from './accounts.ts';
import { assertProblem, assertRefused, call } from './client.ts';
import { describeOnBackends, type System } from './system.ts';

const maxLength = 256;
// From CJK extension B: outside the basic plane, so two UTF-16 units and four bytes each, and fixed under NFKC.
const astralText = (length: number) => String.fromCodePoint(...Array.from({ length }, (_, index) => 0x20000 + index));

const oddPasswords: Record<string, string> = {
  'with spaces at both ends': '  between two spaces  ',
  'with emoji joined into one': '👩‍👩‍👧‍👦🏳️‍🌈👍🏽 family',
  'with many combining marks': `z${'\u0300\u0301\u0302'.repeat(40)} algo`,
  'from right to left': 'סיסמה ארוכה \u202eمرور',
  'with control characters': 'line one\nline two\ttab\u0001\u007f',
  'that looks like a program': `'; drop table users; -- \${7*7} {{x}} <b> \\0 %00`,
  'that looks like a hash': '$2b$04$abcdefghijklmnopqrstuuabcdefghijklmnopqrstuvwxyz01234',
  'of a noncharacter and a private one': '\uffff\ue000\u{10ffff} beyond',
};

for (const PASSWORD_HASH of ['bcrypt', 'argon2id']) {
  describeOnBackends(`long and odd passwords with ${PASSWORD_HASH}`, { PASSWORD_HASH }, (system) => {
    test('256 characters outside the basic plane register and log in, and the last one counts', async () => {
      const password = astralText(maxLength);
      const user = await registerUser(system(), { password });
      assert.equal((await logIn(system(), user.email, password)).status, 200);
      const lastChanged = `${astralText(maxLength - 1)}\u{2f000}`;
      for (const wrong of [lastChanged, astralText(maxLength - 1), astralText(18)]) {
        assertProblem(await logIn(system(), user.email, wrong), 'invalid_credentials');
      }
    });

    test('a password that shares its first 72 bytes with the right one is wrong', async () => {
      const prefix = 'seventy-two bytes are all that bcrypt itself would look at, as we know ok';
      assert.equal(Buffer.byteLength(prefix.slice(0, 72)), 72);
      const user = await registerUser(system(), { password: `${prefix.slice(0, 72)} right` });
      for (const wrong of ['', ' ', ' wrong', ' right ', ' Right']) {
        assertProblem(await logIn(system(), user.email, `${prefix.slice(0, 72)}${wrong}`), 'invalid_credentials');
      }
      assert.equal((await logIn(system(), user.email, `${prefix.slice(0, 72)} right`)).status, 200);
    });
  });
}

describeOnBackends('long and odd passwords', {}, (system) => {
  for (const [kind, password] of Object.entries(oddPasswords)) {
    test(`a password ${kind} registers and logs in as it was typed`, async () => {
      const user = await registerUser(system(), { password });
      assert.equal((await logIn(system(), user.email, password)).status, 200);
      for (const wrong of [`${password} `, ` ${password}`, password.slice(0, -1)].filter((text) =>
        text.isWellFormed(),
      )) {
        assertProblem(await logIn(system(), user.email, wrong), 'invalid_credentials');
      }
    });
  }

  test('spaces at the ends and the case of letters are part of a password', async () => {
    const user = await registerUser(system(), { password: '  Between Two Spaces  ' });
    for (const wrong of ['Between Two Spaces', '  Between Two Spaces', '  between two spaces  ']) {
      assertProblem(await logIn(system(), user.email, wrong), 'invalid_credentials');
    }
  });

  test('what another keyboard makes of the same password logs in too', async () => {
    const password = 'Ångström 12 fish café';
    const variants = {
      NFC: password.normalize('NFC'),
      NFD: password.normalize('NFD'),
      'full width': [...password].map(toFullWidth).join(''),
      'a ligature': password.replace('fi', '\ufb01'),
      'the sign for angstrom': password.replace('Å', '\u212b'),
    };
    assert.equal(new Set(Object.values(variants)).size, 5);
    for (const registered of [variants.NFC, variants['full width']]) {
      const user = await registerUser(system(), { password: registered });
      for (const [name, variant] of Object.entries(variants)) {
        assert.equal((await logIn(system(), user.email, variant)).status, 200, name);
      }
      assertProblem(await logIn(system(), user.email, 'Angstrom 12 fish cafe'), 'invalid_credentials');
    }
  });

  test('257 characters are refused wherever a password is taken, and so is what NFKC makes longer', async () => {
    const user = await registerUser(system());
    const verification_token = await proveAddress(system(), newEmail(), 'registration');
    const post = (path: string, body: object) => ({ method: 'POST' as const, path, body });
    const put = (body: object) => ({
      method: 'PUT' as const,
      path: '/users/me/password',
      token: user.accessToken,
      body,
    });
    const current_password = user.password;

    for (const tooLong of ['x'.repeat(maxLength + 1), astralText(maxLength + 1), ` ${goodPassword}`.padEnd(257)]) {
      const refuse = (request: Parameters<typeof assertRefused>[1], path: string) =>
        assertRefused(system(), request, 'validation_failed', {
          errors: [{ path, message: 'must NOT have more than 256 characters' }],
        });
      await refuse(post('/auth/register', { verification_token, password: tooLong }), '/password');
      await refuse(post('/auth/login', { email: user.email, password: tooLong }), '/password');
      await refuse(put({ current_password, new_password: tooLong }), '/new_password');
      await refuse(put({ current_password: tooLong, new_password: goodPassword }), '/current_password');
    }

    // One character of 18 under NFKC.
    const expanding = '\ufdfa'.repeat(15);
    const message = 'must be at most 256 characters long';
    const errors = (path: string) => ({ errors: [{ path, message }] });
    const register = post('/auth/register', { verification_token, password: expanding });
    await assertRefused(system(), register, 'password_rejected', errors('/password'));
    const change = put({ current_password, new_password: expanding });
    await assertRefused(system(), change, 'password_rejected', errors('/new_password'));
    await registerWith(system(), verification_token, expanding.slice(1));
  });

  test('a wrong password of any accepted shape is a wrong password and no fault', async () => {
    const user = await registerUser(system());
    for (const wrong of [...Object.values(oddPasswords), astralText(maxLength), '\ufdfa'.repeat(maxLength), ' ']) {
      assertProblem(await logIn(system(), user.email, wrong), 'invalid_credentials');
    }
  });
});

async function registerWith(system: System, verification_token: string, password: string): Promise<void> {
  const reply = await call(system, { method: 'POST', path: '/auth/register', body: { verification_token, password } });
  assert.equal(reply.status, 201, reply.text);
}

function toFullWidth(character: string): string {
  return /[!-~]/.test(character) ? String.fromCodePoint((character.codePointAt(0) ?? 0) + 0xfee0) : character;
}
