import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FieldError } from '../src/errors.ts';
import { goodPassword, logIn, newEmail, proveAddress, readMe, registerUser } from './accounts.ts';
import { type Call, call } from './client.ts';
import { type Refusal, refuseAll, withMember } from './hostile-operations.ts';
import { describeOnBackends } from './system.ts';

const inexactAt = (path: string): FieldError => ({ path, message: 'must be a number that a double can hold exactly' });
const refusedAt = (...paths: string[]): Refusal => ({ code: 'validation_failed', errors: paths.map(inexactAt) });

// What JSON can write and JavaScript would read as infinity or as a neighbouring integer.
const inexactNumbers = [
  '1e999',
  '-1e999',
  '1E+400',
  '1.7976931348623159e308',
  '9007199254740992',
  '-9007199254740992',
  '9007199254740993',
  '9007199254740993.0',
  '90071992547409930e-1',
  '1e16',
  '123456789012345678901234567890',
  `1${'0'.repeat(400)}`,
];

describeOnBackends('numbers and names that JSON can carry', {}, (system) => {
  test('a number that JavaScript would change is refused by its place, in any field and at any depth', async () => {
    await refuseAll(system(), ({ fields, sample }) => [
      ...inexactNumbers.flatMap((number) => [
        { raw: number, refusal: refusedAt('') },
        { raw: withMember(sample, `"unknown":${number}`), refusal: refusedAt('/unknown') },
        { raw: withMember(sample, `"unknown":[0,{"a/b":[${number}]}]`), refusal: refusedAt('/unknown/1/a~1b/0') },
      ]),
      ...Object.keys(fields).flatMap((name) => {
        const { [name]: _replaced, ...rest } = sample;
        return [
          { raw: withMember(rest, `"${name}":1e999`), refusal: refusedAt(`/${name}`) },
          { raw: withMember(rest, `"${name}":{"n":-9007199254740993}`), refusal: refusedAt(`/${name}/n`) },
        ];
      }),
    ]);
  });

  test('every such number is named, up to twenty, in the order of the body', async () => {
    const many = Array.from({ length: 2_000 }, () => '1e999').join(',');
    const twenty = Array.from({ length: 20 }, (_, index) => `/unknown/${index}`);
    await refuseAll(system(), ({ sample }) => [
      { raw: withMember(sample, '"b":1e999,"a":[1,-1e999],"c":9007199254740991'), refusal: refusedAt('/b', '/a/1') },
      { raw: withMember(sample, `"unknown":[${many}]`), refusal: refusedAt(...twenty) },
    ]);
  });

  test('a number that a double holds is stored exactly, up to the last safe integer', async () => {
    const { accessToken: token } = await registerUser(system());
    const written = [
      '0.1',
      '1e3',
      '-0',
      '0',
      '1.50',
      '9007199254740991',
      '-9007199254740991',
      '4503599627370495.5',
      '2e-7',
      '5e-324',
      '0.30000000000000004',
    ];
    const expected = [0.1, 1000, 0, 0, 1.5, 2 ** 53 - 1, 1 - 2 ** 53, 2 ** 52 - 0.5, 2e-7, Number.MIN_VALUE, 0.1 + 0.2];
    const rawBody = `{"metadata":{"numbers":[${written.join(',')}]}}`;
    const headers = { 'content-type': 'application/json' };
    const patched = await call(system(), { method: 'PATCH', path: '/users/me', rawBody, headers, token });
    assert.equal(patched.status, 200, patched.text);
    for (const reply of [patched, await readMe(system(), token)]) {
      // JSON has no sign of zero that JSON.stringify would write; every other number comes back to the last bit.
      assert.deepEqual(reply.body.metadata, { numbers: expected });
    }
  });

  test('members of metadata come back under the names and with the texts that they were stored with', async () => {
    const metadata = {
      'line\nbreak': 'a\nb',
      '\r\n': '\r\n',
      '\n': 1,
      'a\u2028b\u2029': '\u2028\u2029',
      '\u0085\u000b\f\t\u001f\u007f': '\b\u0001',
      '': '',
      ' ': ' ',
      toString: 'own',
      hasOwnProperty: false,
      'a/b~c."\\': '</script>',
      '\ud83d\ude00': '\uffff\u{10ffff}',
      '1': [null, { '\n': [{}] }, []],
    };
    const email = newEmail();
    const verification_token = await proveAddress(system(), email, 'registration');
    const body = { verification_token, password: goodPassword, metadata };
    const registered = await call(system(), { method: 'POST', path: '/auth/register', body });
    assert.equal(registered.status, 201, registered.text);
    assert.deepEqual(registered.body.user.metadata, metadata);
    assert.deepEqual((await logIn(system(), email, goodPassword)).body.user.metadata, metadata);

    const me = { path: '/users/me', token: registered.body.access_token };
    const read = async (request: Call) => (await call(system(), request)).body;
    assert.deepEqual((await read({ ...me, method: 'GET' })).metadata, metadata);
    assert.deepEqual((await read({ ...me, method: 'GET', path: '/users/me/export' })).user.metadata, metadata);
    const replaced = { 'another\nline': metadata };
    assert.deepEqual((await read({ ...me, method: 'PATCH', body: { metadata: replaced } })).metadata, replaced);
    assert.deepEqual((await read({ ...me, method: 'GET' })).metadata, replaced);
  });
});
