import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readMe, registerUser } from './accounts.ts';
import { call } from './client.ts';
import { refuseAll } from './hostile-operations.ts';
import { describeOnBackends } from './system.ts';

const refusedNames: Record<string, readonly string[]> = {
  'of blanks alone': [' ', '   ', '\u00a0', '\u2003', '\u202f', '\u3000', '\ufeff', ' \u00a0\u3000 '],
  'with line breaks or other control characters': [
    'Ada\nBcc: eve@example.com',
    'Ada\r\n',
    '\tAda',
    'Ada\u0001',
    'Ada\u001b[31m',
    'Ada\u007f',
    'Ada\u0085',
    'Ada\u009b31m',
    'Ada\u2028',
    'Ada\u2029Eve',
  ],
  'that turns the direction of the text around it': [
    ...['\u200e', '\u200f', '\u202a', '\u202b', '\u202c', '\u202d', '\u202e', '\u2066', '\u2067', '\u2068', '\u2069'],
    'Ada \u202eecalevoL',
    '\u2066Ada\u2069',
    'Ada\u200f',
  ],
};

const acceptedNames = [
  'Ada Lovelace',
  ' Ada ',
  'x',
  "O'Brien-Smith, Jr.",
  '<script>alert(1)</script>',
  'Ðjordje Žižek',
  'Zoe\u0301',
  '山田 太郎',
  'עדה',
  'نور',
  'क्\u200dष',
  '👩‍👩‍👧‍👦',
  'n'.repeat(200),
  '😀'.repeat(200),
];

describeOnBackends('names of people', {}, (system) => {
  for (const [fault, names] of Object.entries(refusedNames)) {
    test(`a name ${fault} is one fault, named by its field`, async () => {
      await refuseAll(system(), ({ fields, sample }) =>
        'name' in fields
          ? names.map((name) => ({
              json: { ...sample, name },
              refusal: { code: 'validation_failed', paths: ['/name'] },
            }))
          : [],
      );
    });
  }

  test('a name of any script is shown as it was given, and null clears it', async () => {
    const { accessToken: token } = await registerUser(system());
    for (const name of [...acceptedNames, null]) {
      const reply = await call(system(), { method: 'PATCH', path: '/users/me', body: { name }, token });
      assert.deepEqual([reply.status, reply.body.name], [200, name]);
      assert.equal((await readMe(system(), token)).body.name, name);
    }
    for (const name of acceptedNames.slice(0, 3)) {
      const user = await registerUser(system(), { name });
      assert.equal((await readMe(system(), user.accessToken)).body.name, name);
    }
  });
});
